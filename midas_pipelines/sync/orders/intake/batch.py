"""Reads the orders of polls and webhooks and imports them; quarantines those that cannot be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Event
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.models import Order, read_order
from midas_pipelines.fourseller.pages import Rejected
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.exceptions import quarantine_order
from midas_pipelines.sync.orders.intake.importer import FIRST, import_sales, quarantined
from midas_pipelines.sync.orders.intake.write import ImportCounts
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.sale import LONGEST_ID, Sale, read_sale

TOO_OLD = "It was placed before MIDAS_ORDERS_SINCE, so it is not imported."
UNDATED = "It has no date, and MIDAS_ORDERS_SINCE is set: the next poll decides whether to import it."


@dataclass(frozen=True)
class Unreadable:
    """An order that cannot be imported: the reason, and the sale as far as it can be read."""

    order_id: str
    raw: Any
    reason: str
    sale: Sale | None = None


Read = Sale | Unreadable | None
"""What was read of an order: None for one before the cut-off of which nothing can be read."""


def read_orders(
    orders: Iterable[Order | Rejected],
    vault: Vault,
    *,
    since: datetime | None,
    read_at: datetime | None = None,
) -> list[Read]:
    """Reads the orders into sales with sealed payloads; writes nothing, so it can run while an earlier batch is imported. Those
    rejected have no id, and get their digest as one. An unknown order placed before `since` is not to be imported. `read_at`
    is before 4Seller was asked, by the database's clock; None for events."""
    read = [_read(one, since, read_at) for one in orders]
    # sealed here, which spares the transaction that work; those left out are rarely written
    sales = [one for one in read if isinstance(one, Sale) and one.left_out is None]
    for sale, sealed in zip(sales, vault.seal_all([sale.raw for sale in sales]), strict=True):
        sale.sealed = sealed
    return read


def _read(order: Order | Rejected, since: datetime | None, read_at: datetime | None) -> Read:
    if isinstance(order, Rejected):
        spelled = json.dumps(order.raw, sort_keys=True, default=str)
        name = f"unreadable-{hashlib.sha256(spelled.encode()).hexdigest()[:16]}"
        return Unreadable(name, order.raw, order.reason)
    sale, reason = None, why_unreadable(order)
    try:
        sale = read_sale(order, read_at)
        sale.left_out = reason or (why_left_out(sale, since) if since is not None else None)
    except Exception as error:  # must not stop other orders
        reason = f"It cannot be read: {type(error).__name__}."
    if reason is None or (since and order.created_at and order.created_at < since):
        return sale
    return Unreadable(order.id, order.raw, reason, sale)


def why_left_out(sale: Sale, since: datetime) -> str | None:
    """Why an order is not imported, unless it is known, as a sentence; None when it is."""
    moment = sale.placed_at or sale.updated_at
    if moment is not None and moment < since:
        return TOO_OLD
    decided = sale.placed_at is not None or sale.read_at is not None
    return None if decided or "created_at" in sale.unreadable else UNDATED  # a poll cannot read it either


def why_unreadable(order: Order) -> str | None:
    """Why an order cannot be imported, as a sentence; None when it can."""
    if len(order.id) > LONGEST_ID:
        return f"Its id is longer than {LONGEST_ID} characters."
    return "Its lines cannot be read." if "items" in order.unreadable and not order.items else None


def import_batch(
    context: SyncContext,
    batch: Iterable[Read],
    vault: Vault,
    turn: Event = FIRST,
    *,
    hurried: bool = False,
) -> ImportCounts:
    """Imports the sales, and quarantines unreadable orders; one that is known is updated as far as it can be read. `turn` and
    `hurried` as for `import_sales`."""
    order_context = OrderContext(context.run_id, vault, context.settings)
    result, sales = ImportCounts(), []
    for one in batch:
        sale = one.sale if isinstance(one, Unreadable) else one
        if isinstance(one, Unreadable):
            turn.wait()
            if kept := quarantine_order(context.database, order_context, one.order_id, one.raw, one.reason):
                result.add(quarantined(one.order_id, kept))
                result.unread.add(one.order_id)
                continue
        if sale is not None:
            sales.append(sale)
    result.add(import_sales(context.database, sales, order_context, turn=turn, hurried=hurried))
    return result


@dataclass(frozen=True, slots=True)
class WebhookResult:
    """The result of one order webhook: `ended` is applied, superseded, quarantined, postponed (retried soon),
    or refused (retried ever later)."""

    ended: str
    reason: str | None = None


def import_order_webhooks(
    context: SyncContext, orders: Sequence[dict[str, Any]], vault: Vault, *, hurried: bool = False
) -> list[WebhookResult]:
    """Imports orders from webhooks, in any order; returns the result of each. `hurried` as for `import_sales`."""
    read = read_orders([_order_of(raw) for raw in orders], vault, since=context.settings.orders_since)
    # one without an id is kept as a webhook only
    named = [one for one, raw in zip(read, orders, strict=True) if one is not None and raw.get("id")]
    done = import_batch(context, named, vault, hurried=hurried)
    newest = context.database.read(_newest_dates, [one.order_id for one in named])
    return [_result_of(one, done, newest) for one in read]


def _order_of(raw: dict[str, Any]) -> Order | Rejected:
    try:
        return read_order(raw)
    except ContractBroken as broken:
        return Rejected(broken.field, str(broken), raw)


def _result_of(one: Read, done: ImportCounts, newest: dict[str, datetime]) -> WebhookResult:
    if one is None:
        return WebhookResult("applied", TOO_OLD)
    sale, name = one if isinstance(one, Sale) else one.sale, one.order_id
    if name in done.refused:
        return WebhookResult("refused", "The database refuses to write the order now.")
    if name in done.postponed:
        return WebhookResult("postponed", done.postponed[name])
    if isinstance(one, Unreadable) and (sale is None or name in done.unread):
        return WebhookResult("quarantined", one.reason)
    if sale and sale.updated_at and name in newest and sale.updated_at < newest[name]:
        return WebhookResult("superseded", "A newer state of the order is known.")
    return WebhookResult("applied", done.left_out.get(name))


def _newest_dates(connection: sa.Connection, order_ids: Sequence[str]) -> dict[str, datetime]:
    """4Seller's newest `updated_at` of each of these orders that is on record."""
    table = marketplace_orders.c
    dated = (table.marketplace_order_id.in_(order_ids), table.source_updated_at.is_not(None))
    query = sa.select(table.marketplace_order_id, table.source_updated_at).where(*dated)
    return dict(connection.execute(query).tuples().all())
