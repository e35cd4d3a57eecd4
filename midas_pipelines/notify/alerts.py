"""Raises and clears alerts to staff, in the transaction of the change they report, and those about liveness and clocks.

While an alert is open, the same condition raises no second one. `notify.delivery` sends them. Dagster and the gateway
each record a heartbeat, and each watches the other's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.listing import stuck_items
from midas_pipelines.store.operations.cursors import (
    advance_cursor,
    database_ahead,
    keep_clock,
    read_clocks,
    read_cursor,
)
from midas_pipelines.store.orders.listing import UNMAPPED
from midas_pipelines.store.schema.operation_tables import alerts
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import any_of, insert

MOST_ALONE = 10  # the most alerts of one kind that are raised separately at once; more are grouped into one

GROUPED = alerts.c.subject.like("many:%")

ENDED = "order_ended"
RUN_FAILED, RECOVERED = "run_failed", "run_recovered"
LOCKOUT = "lockout"
NEWS = (ENDED, RECOVERED, LOCKOUT, "shadow_report")
"""Kinds of alerts that report an event, not a state: they are closed when they are sent."""


DAGSTER, GATEWAY = "dagster", "gateway"
GONE, RETIRED = timedelta(minutes=5), timedelta(days=1)
"""Time without a heartbeat after which a part counts as gone, and then as retired."""

CLOCK_APART = "clock_apart"
APART_SECONDS = 60.0  # from here on there is an alert: 4Seller's webhooks are refused at five minutes
MOVED_SECONDS = 2.0  # A date of 4Seller's is in whole seconds; what moves by less is noise

TEXTS = {
    DAGSTER: "Dagster's daemon has not reported for five minutes: no schedule, poll or check runs. Restart it, and see its "
    "log.",
    GATEWAY: "The gateway's worker has not reported for five minutes: changes and webhooks wait for Dagster's schedules. "
    "Restart it with `midas gateway`, and see its log.",
}


def raise_alert(connection: sa.Connection, *, kind: str, subject: str, text: str) -> bool:
    """Writes an alert to the outbox, with the change that it reports, unless one of this kind (30 characters at
    most) about this subject (such as `item:12:0`, 200 at most) is open; True when it is new. `text` says what
    happened, to which item, and what to do, without personal data."""
    return bool(raise_alerts(connection, kind=kind, texts={subject: text}))


def raise_alerts(connection: sa.Connection, *, kind: str, texts: Mapping[str, str]) -> int:
    """Writes an alert for each subject of `texts` that has none open, worst first; returns how many are new. Many at
    once have one cause and become one alert: its text has the first of them and their number."""
    known = open_subjects(connection, kind) if texts else set()
    fresh = [subject for subject in texts if subject not in known]
    if not fresh:
        return 0
    statement = insert(connection, alerts).on_conflict_do_nothing().returning(alerts.c.id)
    if len(fresh) > MOST_ALONE:
        text = worst([texts[subject] for subject in fresh])
        many = {"kind": kind, "subject": f"many:{uuid4().hex[:8]}", "text": text, "members": fresh}
        connection.execute(statement, [many])
        return len(fresh)
    rows = [{"kind": kind, "subject": subject, "text": texts[subject]} for subject in sorted(fresh)]
    return len(connection.execute(statement, rows).all())


def worst(lines: Sequence[str]) -> str:
    """The first of many lines, and their number."""
    first = "\n".join(f"- {line}" for line in lines[:MOST_ALONE])
    more = f"\n... and {len(lines) - MOST_ALONE} more." if len(lines) > MOST_ALONE else ""
    return f"{len(lines)} in all:\n{first}{more}"


def match_alerts(
    connection: sa.Connection,
    *,
    kind: str,
    texts: Mapping[str, str],
    unknown: Collection[str] = (),
    known: Collection[str] | None = None,
    only_known: bool = False,
) -> tuple[int, int]:
    """Makes the open alerts of a kind match `texts`, by subject, the worst first: raises new ones unless `only_known`,
    updates texts, and clears those that are over. Returns how many subjects were raised, and cleared.

    `unknown` subjects could not be checked: their alerts stay. `known` are the subjects that may be over, all open ones by
    default; a caller that reads them before `texts` never clears what was raised in between.
    """
    known = open_subjects(connection, kind) if known is None else known
    raised = 0 if only_known else raise_alerts(connection, kind=kind, texts=texts)
    query = sa.select(alerts.c.id, alerts.c.subject, alerts.c.text).where(_open(kind))
    for row in connection.execute(query).all():
        if (text := texts.get(row.subject, row.text)) != row.text:
            connection.execute(sa.update(alerts).where(alerts.c.id == row.id).values(text=text))
    over = sorted(set(known) - texts.keys() - set(unknown))
    return raised, clear_alerts(connection, kind=kind, subjects=over)


def report_failure(connection: sa.Connection, texts: Mapping[str, str]) -> None:
    """Raises an alert for each failed workflow or asset, or renews its text; others stay as they are."""
    match_alerts(connection, kind=RUN_FAILED, texts=texts, known=())
    clear_alerts(connection, kind=RECOVERED, subjects=list(texts))


def report_recovery(connection: sa.Connection, names: Collection[str]) -> None:
    """Closes the alerts about failed runs of these workflows or assets, and reports once that they work again."""
    clear_alerts(connection, kind=RUN_FAILED, subjects=names)
    raise_alerts(connection, kind=RECOVERED, texts={name: f"{name} works again." for name in sorted(names)})


def clear_alert(connection: sa.Connection, *, kind: str, subject: str) -> bool:
    """Closes the open alert of this kind about this subject, sent or not; True when there was one."""
    return bool(clear_alerts(connection, kind=kind, subjects=[subject]))


def clear_alerts(connection: sa.Connection, *, kind: str, subjects: Collection[str]) -> int:
    """Closes the open alerts of this kind about these subjects, a grouped one with its last subject; returns how
    many of the subjects had one."""
    if not subjects:
        return 0
    cleared, over = 0, set(subjects)
    for row in connection.execute(sa.select(alerts.c.id, alerts.c.members).where(_open(kind), GROUPED)).all():
        left = [subject for subject in row.members if subject not in over]
        cleared += len(row.members) - len(left)
        values = {"members": left} if left else {"cleared_at": utc_now()}
        if len(left) < len(row.members):
            connection.execute(sa.update(alerts).where(alerts.c.id == row.id).values(values))
    statement = sa.update(alerts).where(_open(kind), any_of(connection, alerts.c.subject, subjects))
    return cleared + connection.execute(statement.values(cleared_at=utc_now())).rowcount


def mark_alert(connection: sa.Connection, alert_id: int, /, **values: Any) -> bool:
    """Writes columns of one open alert, grouped ones whole: `cleared_at` closes it; False where it is not open."""
    mine = sa.and_(alerts.c.id == alert_id, alerts.c.cleared_at.is_(None))
    return bool(connection.execute(sa.update(alerts).where(mine).values(values)).rowcount)


def open_subjects(connection: sa.Connection, *kinds: str) -> set[str]:
    """The subjects of open alerts of these kinds."""
    query = sa.select(alerts.c.subject, alerts.c.members).where(sa.or_(*map(_open, kinds)))
    return {subject for row in connection.execute(query) for subject in (row.members or [row.subject])}


def _open(kind: str) -> sa.ColumnElement[bool]:
    return sa.and_(alerts.c.kind == kind, alerts.c.cleared_at.is_(None))


def recent_alerts(
    connection: sa.Connection,
    *,
    only_open: bool,
    snoozed: bool | None = None,
    kind: str | None = None,
    limit: int | None = 100,
    before: int | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """The newest alerts, or those before one, and the number of all; `limit` None for every one, `snoozed` for both."""
    hidden = ("members", "sent_to", "attempts", "next_attempt_at")
    asked = sa.select(*(column for column in alerts.c if column.name not in hidden))
    if only_open:
        asked = asked.where(alerts.c.cleared_at.is_(None))
    if snoozed is not None:
        asked = asked.where(sa.func.coalesce(alerts.c.snoozed_until > utc_now(), sa.false()).is_(snoozed))
    if kind is not None:
        asked = asked.where(alerts.c.kind == kind)
    total = connection.scalar(sa.select(sa.func.count()).select_from(asked.subquery())) or 0
    if before is not None:
        asked = asked.where(alerts.c.id < before)
    found = connection.execute(asked.order_by(alerts.c.id.desc()).limit(limit)).mappings()
    return [dict(row) for row in found], total


def beat(database: Database, me: str, *, watched: str) -> None:
    """Records the heartbeat of `me`, and updates the alert about the part it watches, unless that never ran."""
    now = database.now()
    advance_cursor(database, f"heartbeat:{me}", now)
    last = read_cursor(database, f"heartbeat:{watched}")
    gone = last is not None and GONE < now - last < RETIRED
    with database.writing() as connection:
        texts = {watched: TEXTS[watched]} if gone else {}
        match_alerts(connection, kind=f"{watched}_gone", texts=texts)


def report_stuck(database: Database) -> None:
    """Updates the one alert about all items that are quarantined or have failed for an hour, and that about all lines
    that match no item: sales that would not be shipped."""
    lines = [f"{row['sku'] or row['name']}: {row['reason']}" for row in stuck_items(database)]
    text = f"Items that cannot be pushed to 4Seller: {worst(lines)}\n`midas items list` shows all."
    with database.writing() as connection:
        match_alerts(connection, kind="items_stuck", texts={"items": text} if lines else {})
        lines_of = sa.select(sa.func.count()).select_from(marketplace_order_lines)
        unmapped = connection.scalar(lines_of.where(UNMAPPED)) or 0
        text = f"{unmapped} sold lines match no item of the shop: `midas orders list --exception unmapped` shows them."
        match_alerts(connection, kind="unmapped", texts={"lines": text} if unmapped else {})


def note_clocks(database: Database, fourseller_ahead: float | None) -> dict[str, float]:
    """Stores how many seconds each clock is ahead of this machine's, 4Seller's where its answers were dated, and
    raises or clears the alert of each."""
    found = {"database": database_ahead(database)}
    if fourseller_ahead is not None:
        found["4Seller"] = fourseller_ahead
    with database.reading() as connection:
        kept = read_clocks(connection)
    moved = {whose for whose, ahead in found.items() if abs(ahead - kept.get(whose, -1e9)) >= MOVED_SECONDS}
    if not moved:  # checked every few seconds, and mostly there is nothing to write
        return found
    with database.writing() as connection:
        for whose in sorted(moved):
            keep_clock(connection, whose, found[whose])
        texts = {
            whose: _sentence(whose, ahead) for whose, ahead in found.items() if abs(ahead) >= APART_SECONDS
        }
        match_alerts(connection, kind=CLOCK_APART, texts=texts, unknown={"4Seller"} - found.keys())
    return found


def _sentence(whose: str, ahead: float) -> str:
    owner = "the database" if whose == "database" else whose
    return (
        f"The clock of {owner} is {abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} this machine's. At five "
        "minutes 4Seller's webhooks are refused. Set the clocks by NTP."
    )


def hub_ahead(database: Database) -> timedelta:
    """How far 4Seller's clock is ahead of the database's, as last measured; nothing where they differ by seconds."""
    clocks = database.read(read_clocks)
    ahead = clocks.get("4Seller", 0.0) - clocks.get("database", 0.0)
    return timedelta(seconds=ahead + MOVED_SECONDS) if abs(ahead) > MOVED_SECONDS else timedelta()
