"""Orders that 4Seller tells of by itself: the newest state of each is imported, in one transaction for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.pages import read_order
from midas_pipelines.store.payloads import Vault
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders.importing import import_sales, set_aside
from midas_pipelines.sync.orders.mail_rules import mail_rules
from midas_pipelines.sync.orders.sales import Sale, UnreadableSaleError, read_sale


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one order as it was told: `ended` is applied, superseded or set_aside."""

    ended: str
    reason: str | None = None


def import_told(engine: Engine, orders: Sequence[dict[str, Any]], vault: Vault) -> list[Told]:
    """Imports orders as events carried them, in the order they came; tells of each what became of it.

    Of several states of one order the newest is imported, and none that is older than what is known already.
    """
    told: list[Told | None] = [None] * len(orders)
    sales: dict[int, Sale] = {}
    for place, raw in enumerate(orders):
        try:
            sales[place] = _read(engine, raw)
        except (ContractBroken, UnreadableSaleError) as why:
            told[place] = _unreadable(engine, raw, str(why), vault)
        except _TooOld as why:
            told[place] = Told("applied", str(why))
    newest = _newest(sales, _known(engine, sales.values()))
    for place in sales.keys() - newest.values():
        told[place] = Told("superseded", "A newer state of the order is known.")
    chosen = sorted(newest.values())
    if chosen:
        new = [sales[place] for place in chosen]
        import_sales(engine.database, new, vault, engine.run_id, mail=mail_rules(engine.settings))
    return [one or Told("applied") for one in told]


class _TooOld(Exception):
    """The order was placed before imports begin."""


def _read(engine: Engine, raw: dict[str, Any]) -> Sale:
    order = read_order(raw)
    since = engine.settings.orders_since
    if since is not None and order.created_at is not None and order.created_at < since:
        raise _TooOld("It was placed before MIDAS_ORDERS_SINCE, so it is not imported.")
    return read_sale(order)


def _unreadable(engine: Engine, raw: dict[str, Any], reason: str, vault: Vault) -> Told:
    order_id = raw.get("id")
    if isinstance(order_id, str) and order_id:
        set_aside(engine.database, order_id, raw, reason, vault, engine.run_id)
    return Told("set_aside", reason)


def _known(engine: Engine, sales: Any) -> dict[str, datetime]:
    """When 4Seller last changed the orders that are imported already."""
    table = marketplace_orders.c
    ids = {sale.order_id for sale in sales}
    query = sa.select(table.marketplace_order_id, table.source_updated_at).where(
        table.marketplace_order_id.in_(ids),
        table.local_order_id.is_not(None),
        table.source_updated_at.is_not(None),
    )
    with engine.database.reading() as connection:
        return {row.marketplace_order_id: row.source_updated_at for row in connection.execute(query)}


def _newest(sales: dict[int, Sale], known: dict[str, datetime]) -> dict[str, int]:
    """The place of the newest state of each order, where none newer is known."""
    newest: dict[str, int] = {}
    for place, sale in sales.items():
        before = newest.get(sale.order_id)
        if before is not None and _age(sale) < _age(sales[before]):
            continue
        if sale.order_id in known and sale.updated_at is not None and sale.updated_at < known[sale.order_id]:
            continue
        newest[sale.order_id] = place
    return newest


def _age(sale: Sale) -> float:
    return (sale.updated_at or sale.placed_at).timestamp()
