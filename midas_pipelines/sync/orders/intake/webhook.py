"""Imports orders from 4Seller's webhooks, in one transaction for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.pages import Rejected, read_order
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.quarantine import quarantine_order
from midas_pipelines.sync.orders.intake.batch import import_sales
from midas_pipelines.sync.orders.intake.cutoff import TOO_OLD, skipped_as_old
from midas_pipelines.sync.orders.intake.read import Unreadable, read_batch, rejected_order
from midas_pipelines.sync.orders.model.merge import newest_states
from midas_pipelines.sync.orders.model.sale import Sale


@dataclass(frozen=True, slots=True)
class WebhookResult:
    """The result of one order webhook: `ended` is applied, superseded, quarantined, or postponed (retried soon)."""

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
    known, since = _known(context, sales.values()), context.settings.orders_since
    strangers = newest_states([sale for sale in sales.values() if sale.order_id not in known])
    outside = {sale.order_id: skipped_as_old(sale, since) for sale in strangers}
    if sales:
        mail, run = context.settings, context.run_id
        result = import_sales(context.database, list(sales.values()), vault, run, mail=mail, since=since)
        unknown = [sale for sale in sales.values() if sale.status_word and not sale.known_status]
        if unknown:  # a known status in the same batch is no reason to lose a later word
            result.add(import_sales(context.database, unknown, vault, run, mail=mail, since=since))
        for place, sale in sales.items():
            if sale.order_id in result.postponed:
                results[place] = results[place] or WebhookResult(
                    "postponed", "The shop has locked an item or its order."
                )
    for place in _late(sales, known):
        results[place] = results[place] or WebhookResult("superseded", "A newer state of the order is known.")
    for place, sale in sales.items():
        results[place] = results[place] or WebhookResult("applied", outside.get(sale.order_id))
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
        kept = quarantine_order(context.database, one.order_id, one.raw, one.reason, vault, context.run_id)
    return WebhookResult("quarantined", one.reason) if kept or one.sale is None else None


def _known(context: SyncContext, sales: Iterable[Sale]) -> dict[str, datetime | None]:
    """The orders that are imported already, each with 4Seller's `updated_at`."""
    table = marketplace_orders.c
    ids = {sale.order_id for sale in sales}
    query = sa.select(table.marketplace_order_id, table.source_updated_at).where(
        table.marketplace_order_id.in_(ids),
        table.outcome == "imported",
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
