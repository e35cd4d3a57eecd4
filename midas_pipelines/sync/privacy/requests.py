"""What a person asks for: found, exported or erased. Each request has its 30 days, its proof, and what was sent to whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.webhooks import empty_events
from midas_pipelines.store.orders.payload_vault import vault_of
from midas_pipelines.store.privacy.register import RECIPIENTS
from midas_pipelines.store.schema.privacy_tables import privacy_requests
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.privacy.due import BuyerHeld, erase_order
from midas_pipelines.sync.privacy.export import export_person
from midas_pipelines.sync.privacy.search import Subject, find_person

_REQUESTS = privacy_requests.c


@dataclass
class PrivacyAnswer:
    """The answer to a request. `left` names orders that are not erased yet, `held` those that the law keeps, with why."""

    request: int
    kind: str
    due_at: datetime
    orders: list[str]
    events: int = 0
    erased: list[str] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    notify: dict[str, str] = field(default_factory=dict)
    export: dict[str, Any] | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.left


def answer_request(context: SyncContext, kind: str, subject: Subject, asked_by: str) -> PrivacyAnswer:
    """Records the request, does it, and records the proof. One that was cut short is taken up again by the same words.

    Args:
        context: settings and database.
        kind: find, export or erase.
        subject: the person.
        asked_by: who passes the request on.

    Raises:
        WrongInput: the subject is empty.
    """
    vault = vault_of(context.settings)
    with context.database.writing() as connection:
        request = _open_request(connection, kind, subject.stored(vault.ring), asked_by)
    with context.database.reading() as connection:
        found = find_person(connection, vault.ring, subject)
        names = [row.marketplace_order_id for row in found.orders]
        answer = PrivacyAnswer(request.id, kind, request.due_at, names, len(found.events))
        if kind == "export":
            answer.export = export_person(connection, context.settings, vault, found)
    if kind == "erase":
        answer.notify = dict(RECIPIENTS) if names else {}
        order_context = OrderContext(context.run_id)
        for row in found.orders:
            try:
                erase_order(context.database, row.id, order_context)
                answer.erased.append(row.marketplace_order_id)
            except BuyerHeld as held:
                answer.held[row.marketplace_order_id] = str(held)
            except sa.exc.OperationalError:  # another session holds the order
                answer.left.append(row.marketplace_order_id)
        with context.database.writing() as connection:
            empty_events(connection, found.events)
        context.database.overwrite_erased()
    _record(context.database, answer, {*(request.orders or ()), *names})
    return answer


def _open_request(connection: sa.Connection, kind: str, subject: str, asked_by: str) -> sa.Row[Any]:
    """The open request of these words, or a new one."""
    query = sa.select(privacy_requests).where(
        _REQUESTS.kind == kind, _REQUESTS.subject == subject, _REQUESTS.done_at.is_(None)
    )
    known = connection.execute(query.order_by(_REQUESTS.id).limit(1)).first()
    if known is not None:
        return known
    row = {"kind": kind, "subject": subject, "asked_by": asked_by}
    return connection.execute(sa.insert(privacy_requests).values(row).returning(privacy_requests)).one()


def _record(database: Database, answer: PrivacyAnswer, orders: set[str]) -> None:
    proof = {
        "erased": answer.erased,
        "held": answer.held,
        "left": answer.left,
        "events": answer.events,
        "answered_at": datetime.now(UTC).isoformat(),
    }
    values: dict[str, Any] = {"orders": sorted(orders), "proof": proof}
    if answer.done:
        values["done_at"] = utc_now()
    with database.writing() as connection:
        mine = sa.update(privacy_requests).where(_REQUESTS.id == answer.request)
        connection.execute(mine.values(values))


def note_sent(connection: sa.Connection, request: int, *, to: str, what: str, by: str) -> None:
    """Records that something about a request was sent to someone. Raises WrongInput for a request that is not known."""
    query = sa.select(privacy_requests).where(_REQUESTS.id == request).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        raise WrongInput(f"There is no request {request}: `midas privacy requests` lists all.")
    sent = {"to": to, "what": what, "by": by, "at": datetime.now(UTC).isoformat()}
    mine = sa.update(privacy_requests).where(_REQUESTS.id == request)
    connection.execute(mine.values(sent=[*(row.sent or []), sent]))


def list_requests(connection: sa.Connection, *, limit: int = 100) -> list[dict[str, Any]]:
    """The newest requests with their clock, proof, and what was sent to whom."""
    query = sa.select(privacy_requests).order_by(_REQUESTS.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def late_requests(database: Database) -> list[dict[str, Any]]:
    """Requests whose 30 days are over without an answer, the oldest first."""
    late = sa.and_(_REQUESTS.done_at.is_(None), _REQUESTS.due_at < utc_now())
    query = sa.select(_REQUESTS.id.label("request"), _REQUESTS.kind, _REQUESTS.due_at).where(late)
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query.order_by(_REQUESTS.due_at)).mappings()]
