"""Reads orders into sales and imports them, from a poll or from webhooks; quarantines those that cannot be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.models import Order
from midas_pipelines.fourseller.pages import Rejected, read_order
from midas_pipelines.store.orders.payload_vault import Vault, vault_of
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes import quarantine
from midas_pipelines.sync.orders.intake.batch import import_sales
from midas_pipelines.sync.orders.intake.result import TOO_OLD, ImportCounts, quarantined_order, too_old
from midas_pipelines.sync.orders.model.sale import Sale, read_sale, why_unreadable


def import_orders_read(
    context: SyncContext,
    orders: Sequence[Order],
    rejected: Sequence[Rejected] = (),
    *,
    vault: Vault | None = None,
    read_at: datetime | None = None,
) -> ImportCounts:
    """Imports orders from a poll or a webhook in one transaction; quarantines bad ones.

    Args:
        engine: the shop's database and settings.
        orders: as the client read them.
        rejected: those it could not read.
        vault: seals the payloads; made from the settings when it is not given.
        read_at: before 4Seller was asked for them, by the database's clock; None for events.
    """
    vault = vault or vault_of(context.settings)
    return import_batch(context, read_batch(context, orders, rejected, vault, read_at), vault)


@dataclass(frozen=True)
class Unreadable:
    """An order that cannot be imported: the reason, and the sale as far as it can be read."""

    order_id: str
    raw: Any
    reason: str
    sale: Sale | None = None


@dataclass
class Batch:
    """Orders to import, and orders that cannot be read."""

    sales: list[Sale] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)

    def add(self, other: Batch) -> None:
        """Adds another batch."""
        self.sales += other.sales
        self.unreadable += other.unreadable

    def leave(self, one: Unreadable, *, old: bool) -> None:
        """Adds an unreadable order; of one before the cut-off only its status, in case it is known."""
        if not old:
            self.unreadable.append(one)
        elif one.sale is not None:
            self.sales.append(one.sale)


def read_batch(
    context: SyncContext,
    orders: Sequence[Order],
    rejected: Sequence[Rejected],
    vault: Vault,
    read_at: datetime | None = None,
) -> Batch:
    """Reads the orders into sealed sales; writes nothing, so it can run while an earlier batch is imported."""
    batch = Batch()
    for order in orders:
        old = too_old(order.created_at, context.settings.orders_since)  # rarely written, so not sealed yet
        try:
            sale = read_sale(order, None if old else vault, read_at)
        except (ArithmeticError, ValueError) as error:  # must not stop other orders
            batch.leave(
                Unreadable(order.id, order.raw, f"It cannot be read: {type(error).__name__}."), old=old
            )
            continue
        reason = why_unreadable(order)
        if reason is None:
            batch.sales.append(sale)
        else:
            known = replace(sale, left_out=reason)
            batch.leave(Unreadable(order.id, order.raw, reason, known), old=old)
    batch.unreadable += [rejected_order(row) for row in rejected]
    return batch


def rejected_order(row: Rejected) -> Unreadable:
    """An order without an id, stored under its digest."""
    return Unreadable(f"unreadable-{_digest(row.raw)}", row.raw, row.reason)


def import_batch(
    context: SyncContext, batch: Batch, vault: Vault, *, on_writing: Callable[[], None] = lambda: None
) -> ImportCounts:
    """Imports the sales in one transaction, and quarantines unreadable orders, each with its reason.

    An unreadable order that is known already is updated as far as it can be read. `on_writing` is called when most
    rows are made and the database begins to write them.
    """
    result = ImportCounts()
    sales = list(batch.sales)
    for one in batch.unreadable:
        kept = quarantine.quarantine_order(
            context.database, one.order_id, one.raw, one.reason, vault, context.run_id
        )
        if kept is not None:
            result.add(quarantined_order(one.order_id, new=kept == "new"))
        elif one.sale is not None:
            sales.append(one.sale)
    if sales:
        mail, since = context.settings, context.settings.orders_since
        run = context.run_id
        result.add(
            import_sales(context.database, sales, vault, run, mail=mail, since=since, on_writing=on_writing)
        )
    return result


def _digest(raw: object) -> str:
    return hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class WebhookResult:
    """The result of one order webhook: `ended` is applied, superseded, quarantined, postponed (retried soon),
    or refused (retried ever later)."""

    ended: str
    reason: str | None = None


def import_order_webhooks(
    context: SyncContext, orders: Sequence[dict[str, Any]], vault: Vault
) -> list[WebhookResult]:
    """Imports orders from webhooks, in the order received; returns the result of each.

    Of several states of one order, the newest content and the furthest status count: webhooks arrive late and clocks
    differ, but a status that was reached is never reverted.
    """
    results: list[WebhookResult | None] = [None] * len(orders)
    sales: dict[int, Sale] = {}
    for place, raw in enumerate(orders):
        read = _read(context, raw, vault)
        if isinstance(read, Unreadable):
            results[place] = _keep(context, read, vault)
            if read.sale is not None:
                sales[place] = read.sale
        elif read is None:
            results[place] = WebhookResult("applied", TOO_OLD)
        else:
            sales[place] = read
    known = _known(context, sales.values())
    result = import_batch(context, Batch(list(sales.values())), vault)
    unknown = [sale for sale in sales.values() if sale.status_word and not sale.known_status]
    # A known status in the same batch is no reason to lose a later word.
    result.add(import_batch(context, Batch(unknown), vault))
    late = _late(sales, known)
    for place, sale in sales.items():
        if sale.order_id in result.refused:
            ended = WebhookResult("refused", "The database refuses to write the order now.")
        elif sale.order_id in result.postponed:
            ended = WebhookResult("postponed", "The shop has locked an item or its order.")
        elif place in late:
            ended = WebhookResult("superseded", "A newer state of the order is known.")
        else:
            ended = WebhookResult("applied", result.left_out.get(sale.order_id))
        results[place] = results[place] or ended
    return [one or WebhookResult("applied") for one in results]


def _read(context: SyncContext, raw: dict[str, Any], vault: Vault) -> Sale | Unreadable | None:
    """The order as a sealed sale, or why it cannot be read; None where it is not needed."""
    try:
        order = read_order(raw)
    except ContractBroken as broken:
        return rejected_order(Rejected(broken.field, str(broken), raw))
    batch = read_batch(context, [order], [], vault)
    found: list[Sale | Unreadable] = [*batch.sales, *batch.unreadable]
    return found[0] if found else None


def _keep(context: SyncContext, one: Unreadable, vault: Vault) -> WebhookResult | None:
    """Quarantines an unreadable order; None when it is known, and is updated as far as it can be read."""
    kept: str | None = "event"  # one without an id is stored as a webhook only
    if one.raw.get("id"):
        kept = quarantine.quarantine_order(
            context.database, one.order_id, one.raw, one.reason, vault, context.run_id
        )
    return WebhookResult("quarantined", one.reason) if kept or one.sale is None else None


def _known(context: SyncContext, sales: Iterable[Sale]) -> dict[str, datetime | None]:
    """The orders that are imported already, each with 4Seller's `updated_at`."""
    table = marketplace_orders.c
    ids = {sale.order_id for sale in sales}
    query = sa.select(table.marketplace_order_id, table.source_updated_at).where(
        table.marketplace_order_id.in_(ids), table.outcome == "imported"
    )
    with context.database.reading() as connection:
        return {row.marketplace_order_id: row.source_updated_at for row in connection.execute(query)}


def _late(sales: dict[int, Sale], known: dict[str, datetime | None]) -> set[int]:
    """The indexes of sales that are older than another of the same order, in this batch or on record."""
    newest: dict[str, int] = {}
    late = set()
    for place, sale in sales.items():
        before = newest.get(sale.order_id)
        if before is not None and _age(sale) < _age(sales[before]):
            late.add(place)
            continue
        if before is not None:
            late.add(before)
        newest[sale.order_id] = place
        recorded = known.get(sale.order_id)
        if recorded is not None and sale.updated_at is not None and sale.updated_at < recorded:
            late.add(place)
    return late


def _age(sale: Sale) -> float:
    return (sale.updated_at or sale.ordered_at).timestamp()
