"""What a person asks for: found, exported or erased. Each request has its 30 days, its proof, and what was sent to whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database, InShadow
from midas_pipelines.store.gateway.webhooks import ORDER, empty_events
from midas_pipelines.store.orders.payload_vault import PayloadUnreadable, Vault, vault_of
from midas_pipelines.store.privacy.register import RECIPIENTS, register_rows
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.privacy_tables import buyer_holds, privacy_requests
from midas_pipelines.store.schema.shipment_tables import customer_mails, order_shipments
from midas_pipelines.store.schema.tables import (
    marketplace_order_lines,
    marketplace_orders,
    order_processing_logs,
)
from midas_pipelines.storefront.schema import order_items, order_status_history, orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.privacy.due import BuyerHeld, erase_order
from midas_pipelines.sync.privacy.search import FoundPerson, Subject, find_person

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
        order_context = OrderContext(context.run_id)
        for row in found.orders:
            try:
                erase_order(context.database, row.id, order_context)
                answer.erased.append(row.marketplace_order_id)
            except BuyerHeld as held:
                answer.held[row.marketplace_order_id] = str(held)
            except (sa.exc.OperationalError, InShadow):  # another session holds it, or shadow mode is on
                answer.left.append(row.marketplace_order_id)
        with context.database.writing() as connection:
            empty_events(connection, found.events)
        answer.notify = dict(RECIPIENTS) if answer.erased else {}
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


def export_person(
    connection: sa.Connection, settings: Settings, vault: Vault, found: FoundPerson
) -> dict[str, Any]:
    """Everything that is kept of the person, opened.

    Args:
        connection: one consistent snapshot.
        settings: for the periods.
        vault: opens the payloads.
        found: the person's orders and events.
    """
    events = sa.select(marketplace_webhooks).where(marketplace_webhooks.c.id.in_(found.events))
    return {
        "orders": [_order(connection, settings, vault, row) for row in found.orders],
        "events": [_opened(vault, row) for row in connection.execute(events).mappings()],
        "fields": register_rows(),
        "recipients": RECIPIENTS,
    }


def _order(connection: sa.Connection, settings: Settings, vault: Vault, row: sa.Row[Any]) -> dict[str, Any]:
    name, local = row.marketplace_order_id, row.local_order_id
    days = settings.erase_after(row.sales_channel)
    parts = {
        orders: orders.c.id == local,
        order_items: order_items.c.order_id == local,
        order_status_history: order_status_history.c.order_id == local,
        marketplace_orders: marketplace_orders.c.id == row.id,
        marketplace_order_lines: marketplace_order_lines.c.order_id == row.id,
        order_processing_logs: order_processing_logs.c.marketplace_order_id == name,
        order_shipments: order_shipments.c.order_id == local,
        customer_mails: customer_mails.c.order_id == row.id,
        marketplace_webhooks: marketplace_webhooks.c.subject == f"{ORDER}{name}",
        buyer_holds: buyer_holds.c.order_id == row.id,
    }
    return {
        "order": name,
        "kept": "as long as the shop says" if days is None else f"{days} days after the delivery or the end",
        **{
            table.name: [
                _opened(vault, found) for found in connection.execute(sa.select(table).where(mine)).mappings()
            ]
            for table, mine in parts.items()
        },
    }


def _opened(vault: Vault, row: sa.RowMapping) -> dict[str, Any]:
    found = dict(row)
    if found.get("payload"):
        try:
            found["payload"] = vault.open(found["payload"])
        except PayloadUnreadable as why:
            found["payload"] = str(why)
    return found
