"""Orders that 4Seller tells of by itself: what each of them has come to is imported, in one transaction for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.pages import Rejected, read_order
from midas_pipelines.store.payloads import Vault
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders.importing import import_sales
from midas_pipelines.sync.orders.mail_rules import mail_rules
from midas_pipelines.sync.orders.sales import Sale
from midas_pipelines.sync.orders.set_aside import keep
from midas_pipelines.sync.orders.taking_in import Unreadable, read_batch, rejected_order, too_old

TOO_OLD = "It was placed before MIDAS_ORDERS_SINCE, so it is not imported."


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one order as it was told: `ended` is applied, superseded or set_aside."""

    ended: str
    reason: str | None = None


def import_told(engine: Engine, orders: Sequence[dict[str, Any]], vault: Vault) -> list[Told]:
    """Imports orders as events carried them, in the order they came; tells of each what became of it.

    Of several states of one order the newest content counts, and the furthest status: events come late and clocks
    differ, but a status that was reached stays reached.
    """
    told: list[Told | None] = [None] * len(orders)
    sales: dict[int, Sale] = {}
    for place, raw in enumerate(orders):
        read = _read(engine, raw, vault)
        if isinstance(read, Unreadable):
            told[place] = _keep(engine, read, vault)
            if read.standing is not None:
                sales[place] = read.standing
        elif read is None:
            told[place] = Told("applied", TOO_OLD)
        else:
            sales[place] = read
    late = _late(sales, _known(engine, sales.values()))
    if sales:
        mail = mail_rules(engine.settings)
        import_sales(engine.database, list(sales.values()), vault, engine.run_id, mail=mail)
    for place in late:
        told[place] = told[place] or Told("superseded", "A newer state of the order is known.")
    return [one or Told("applied") for one in told]


def _read(engine: Engine, raw: dict[str, Any], vault: Vault) -> Sale | Unreadable | None:
    """The order as a sale, sealed; why it is none; None where it is too old to be imported."""
    try:
        order = read_order(raw)
    except ContractBroken as broken:
        given = raw.get("id")
        row = Rejected(given if isinstance(given, str) and given else None, broken.field, str(broken), raw)
        return rejected_order(row)
    if too_old(engine, order):
        return None
    batch = read_batch(engine, [order], [], vault)
    return batch.sales[0] if batch.sales else batch.unreadable[0]


def _keep(engine: Engine, one: Unreadable, vault: Vault) -> Told:
    if isinstance(one.raw, dict) and one.raw.get("id"):
        keep(engine.database, one.order_id, one.raw, one.reason, vault, engine.run_id)
    return Told("set_aside", one.reason)


def _known(engine: Engine, sales: Iterable[Sale]) -> dict[str, datetime]:
    """When 4Seller last changed the orders that are imported already."""
    table = marketplace_orders.c
    ids = {sale.order_id for sale in sales}
    query = sa.select(table.marketplace_order_id, table.source_updated_at).where(
        table.marketplace_order_id.in_(ids),
        table.outcome == "imported",
        table.source_updated_at.is_not(None),
    )
    with engine.database.reading() as connection:
        return {row.marketplace_order_id: row.source_updated_at for row in connection.execute(query)}


def _late(sales: dict[int, Sale], known: dict[str, datetime]) -> set[int]:
    """The places of states that are older than another of the same order, here or on record."""
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
        if sale.order_id in known and sale.updated_at is not None and sale.updated_at < known[sale.order_id]:
            late.add(place)
    return late


def _age(sale: Sale) -> float:
    return (sale.updated_at or sale.ordered_at).timestamp()
