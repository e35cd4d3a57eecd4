"""`midas alerts` and `midas webhooks`: what goes out to staff, and what came in from 4Seller."""

from __future__ import annotations

import click

from midas_pipelines.cli.opening import Changing, shop_database
from midas_pipelines.cli.printing import AnsweringGroup, Table, answer
from midas_pipelines.notify.alerts import recent_alerts
from midas_pipelines.notify.delivery import deliver, read_targets, require_understood
from midas_pipelines.settings import load_settings
from midas_pipelines.store.gateway import webhooks as inbox
from midas_pipelines.store.operations.backlog import read_backlog

MOST_LISTED = 100
STATES = click.Choice(["pending", "applied", "superseded", "quarantined", "all"])


@click.group(cls=AnsweringGroup)
def alerts() -> None:
    """List staff alerts, and send those that are due. Targets are the apprise addresses in MIDAS_NOTIFY_URLS."""
    require_understood(load_settings().notify_urls)


@alerts.command("list")
@click.option("--all", "everything", is_flag=True, help="Also closed alerts.")
@click.option("--kind", help="Only this kind, such as low_stock.")
def show_alerts(everything: bool, kind: str | None) -> None:
    """The open alerts, the newest hundred first."""
    with shop_database() as (_, database), database.reading() as connection:
        limit = None if everything else MOST_LISTED
        found, total = recent_alerts(connection, only_open=not everything, kind=kind, limit=limit)
    shown = [{name: cell for name, cell in row.items() if name != "subject"} for row in found]
    more = "--all shows every one, --kind those of one kind"
    table = Table("Alerts (times in UTC)", shown, "No alert is open.", total, more)
    answer({"alerts": found, "total": total}, table)


@alerts.command(cls=Changing)
def send() -> None:
    """Send the alerts that are due. Exits 1 when a target did not take them; they stay in the outbox."""
    with shop_database() as (settings, database):
        targets = read_targets(settings.notify_urls)
        if not targets:
            raise click.UsageError("MIDAS_NOTIFY_URLS is not set: give apprise addresses, as mailtos://...")
        done = deliver(database, targets, settings.console_url)
    said = f"{done.sent} alerts sent, {done.waiting} wait. {' '.join(done.problems)}".strip()
    answer(vars(done), said, failed=done.waiting)


@click.group(cls=AnsweringGroup)
def webhooks() -> None:
    """List and replay the events that 4Seller sent."""


@webhooks.command(name="list")
@click.option(
    "--state",
    type=STATES,
    default="quarantined",
    help="quarantined: a person has to look. pending: not applied yet.",
)
@click.option("--limit", default=50, type=click.IntRange(1, 1000), help="Show the newest N.")
def list_webhooks(state: str, limit: int) -> None:
    """List events with their outcomes and reasons."""
    with shop_database() as (_, database), database.reading() as connection:
        rows = inbox.listed(connection, state=state, limit=limit)
        for row in rows:
            del row["id"]
        total = inbox.count(connection, state=state)
        left = read_backlog(connection)
    pending, quarantined = left.webhooks, left.quarantined_webhooks
    answer(
        {"webhooks": rows, "total": total, "pending": pending, "quarantined": quarantined},
        Table(f"Webhooks, {state}", rows, total=total, more="--limit shows more"),
        f"{pending} are waiting, {quarantined} are quarantined.",
    )


@webhooks.command(cls=Changing)
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All quarantined events.")
def replay(ids: tuple[str, ...], everything: bool) -> None:
    """Apply events again, by their webhook id; a running gateway or worker does it at once.

    An event that was applied before has no second effect.
    """
    if bool(ids) == everything:
        raise click.UsageError("Name webhook ids, or give --all for the quarantined ones.")
    with shop_database() as (_, database):
        put_back = database.write(inbox.replay, list(ids) or None)
    unknown = sorted(set(ids) - set(put_back))
    missing = f"Not known, or waiting anyway: {', '.join(unknown)}." if unknown else ""
    done = {"replayed": put_back, "unknown_or_pending": unknown}
    answer(done, f"{len(put_back)} events are put back.", missing, failed=unknown)
