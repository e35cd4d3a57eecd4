"""Reads the orders of polls and webhooks and imports them; quarantines those that cannot be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.models import Order, read_order
from midas_pipelines.fourseller.pages import Rejected
from midas_pipelines.store.orders.payload_vault import Vault, vault_of
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.exceptions import quarantine_order
from midas_pipelines.sync.orders.intake.importer import FIRST, TOO_OLD, import_sales, is_older, quarantined
from midas_pipelines.sync.orders.intake.write import ImportCounts
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.sale import LONGEST_ID, Sale, read_sale


@dataclass(frozen=True)
class Unreadable:
    """An order that cannot be imported: the reason, and the sale as far as it can be read."""

    order_id: str
    raw: Any
    reason: str
    sale: Sale | None = None


def read_orders(
    context: SyncContext,
    orders: Iterable[Order],
    *,
    rejected: Sequence[Rejected] = (),
    read_at: datetime | None = None,
) -> list[Sale | Unreadable]:
    """Reads the orders into sales; writes nothing, so it can run while an earlier batch is imported. Those `rejected` have
    no id, and get their digest as one. `read_at` is before 4Seller was asked, by the database's clock; None for events. Of
    an unreadable order before the cut-off only the status is kept, in case it is known."""
    found: list[Sale | Unreadable] = []
    for row in rejected:
        spelled = json.dumps(row.raw, sort_keys=True, default=str)
        name = f"unreadable-{hashlib.sha256(spelled.encode()).hexdigest()[:16]}"
        found.append(Unreadable(name, row.raw, row.reason))
    for order in orders:
        old = is_older(order.created_at, context.settings.orders_since)
        sale, reason = None, why_unreadable(order)
        try:
            sale = read_sale(order, read_at)
        except Exception as error:  # must not stop other orders
            reason = f"It cannot be read: {type(error).__name__}."
        if sale is not None and reason is not None:
            sale = replace(sale, left_out=reason)
        if reason is not None and not old:
            found.append(Unreadable(order.id, order.raw, reason, sale))
        elif sale is not None:
            found.append(sale)
    return found


def seal_sales(context: SyncContext, read: Iterable[Sale | Unreadable], vault: Vault) -> None:
    """Seals the payloads of these sales, which spares the transaction that work; not of those before the cut-off, which are
    rarely written."""
    since = context.settings.orders_since
    sales = [one for one in read if isinstance(one, Sale) and not is_older(one.placed_at, since)]
    for sale, sealed in zip(sales, vault.seal_all([sale.raw for sale in sales]), strict=True):
        sale.sealed = sealed


def why_unreadable(order: Order) -> str | None:
    """Why an order cannot be imported, as a sentence; None when it can."""
    if len(order.id) > LONGEST_ID:
        return f"Its id is longer than {LONGEST_ID} characters."
    return "Its lines cannot be read." if "items" in order.unreadable and not order.items else None


def import_orders_read(
    context: SyncContext, orders: Sequence[Order], *, read_at: datetime | None
) -> ImportCounts:
    """Imports orders as `read_orders` reads them."""
    vault = vault_of(context.settings)
    read = read_orders(context, orders, read_at=read_at)
    seal_sales(context, read, vault)
    return import_batch(context, read, vault)


def import_batch(
    context: SyncContext,
    batch: Iterable[Sale | Unreadable],
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
        if isinstance(one, Sale):
            sales.append(one)
            continue
        turn.wait()
        if kept := quarantine_order(context.database, order_context, one.order_id, one.raw, one.reason):
            result.add(quarantined(one.order_id, kept))
            result.unread.add(one.order_id)
        elif one.sale is not None:
            sales.append(one.sale)
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
    read = [_read_event(context, raw) for raw in orders]
    # one without an id is kept as a webhook only
    named = [one for one, raw in zip(read, orders, strict=True) if one is not None and raw.get("id")]
    newest = _newest_dates(context, [sale for one in named if (sale := _sale_of(one))])
    seal_sales(context, named, vault)
    done = import_batch(context, named, vault, hurried=hurried)
    return [_result_of(one, done, newest) for one in read]


def _read_event(context: SyncContext, raw: dict[str, Any]) -> Sale | Unreadable | None:
    """The order of an event; None where it was placed before the cut-off, and nothing of it can be read."""
    try:
        read = read_orders(context, [read_order(raw)])
    except ContractBroken as broken:
        read = read_orders(context, [], rejected=[Rejected(broken.field, str(broken), raw)])
    return next(iter(read), None)


def _sale_of(one: Sale | Unreadable) -> Sale | None:
    return one if isinstance(one, Sale) else one.sale


def _result_of(
    one: Sale | Unreadable | None, done: ImportCounts, newest: dict[str, datetime]
) -> WebhookResult:
    if one is None:
        return WebhookResult("applied", TOO_OLD)
    sale, name = _sale_of(one), one.order_id
    if name in done.refused:
        return WebhookResult("refused", "The database refuses to write the order now.")
    if name in done.postponed:
        return WebhookResult("postponed", done.postponed[name])
    if isinstance(one, Unreadable) and (sale is None or name in done.unread):
        return WebhookResult("quarantined", one.reason)
    if sale is not None and sale.updated_at is not None and sale.updated_at < newest[name]:
        return WebhookResult("superseded", "A newer state of the order is known.")
    return WebhookResult("applied", done.left_out.get(name))


def _newest_dates(context: SyncContext, sales: Sequence[Sale]) -> dict[str, datetime]:
    """4Seller's newest `updated_at` of each order, on record or in the batch."""
    table = marketplace_orders.c
    query = sa.select(table.marketplace_order_id, table.source_updated_at).where(
        table.marketplace_order_id.in_({sale.order_id for sale in sales}), table.outcome == "imported"
    )
    with context.database.reading() as connection:
        dates = [tuple(row) for row in connection.execute(query)]
    newest: dict[str, datetime] = {}
    for order_id, date in [*dates, *((sale.order_id, sale.updated_at) for sale in sales)]:
        if date is not None:
            newest[order_id] = max(date, newest.get(order_id, date))
    return newest
