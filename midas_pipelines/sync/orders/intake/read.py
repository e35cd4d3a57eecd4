"""Reads orders into sales and imports them; quarantines those that cannot be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from midas_pipelines.fourseller.models import Order
from midas_pipelines.fourseller.pages import Rejected
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes import quarantine
from midas_pipelines.sync.orders.intake.batch import import_sales
from midas_pipelines.sync.orders.intake.cutoff import too_old
from midas_pipelines.sync.orders.intake.result import ImportCounts, quarantined_order
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
    vault = vault or Vault(context.settings.payload_key)
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
            known = replace(sale, only_followed=True)
            batch.leave(Unreadable(order.id, order.raw, reason, known), old=old)
    batch.unreadable += [rejected_order(row) for row in rejected]
    return batch


def rejected_order(row: Rejected) -> Unreadable:
    """An order without an id, stored under its digest."""
    return Unreadable(f"unreadable-{_digest(row.raw)}", row.raw, row.reason)


def import_batch(
    context: SyncContext, batch: Batch, vault: Vault, *, on_sent: Callable[[], None] = lambda: None
) -> ImportCounts:
    """Imports the sales in one transaction, and quarantines unreadable orders, each with its reason.

    An unreadable order that is known already is updated as far as it can be read. `on_sent` is called when the database
    has received everything but is still working.
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
        result.add(import_sales(context.database, sales, vault, run, mail=mail, since=since, on_sent=on_sent))
    return result


def _digest(raw: object) -> str:
    return hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest()[:16]
