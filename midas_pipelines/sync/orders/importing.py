"""Importing marketplace sales: order, lines, stock deduction, ledger and log in one transaction, once each.

Polling and pushed events come through `import_sales` alike. A batch is set-based SQL; when one sale in it breaks a
rule of the shop's tables the batch is rolled back and its sales go one at a time, so that only the bad one is set aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from midas_pipelines.store.database import Database
from midas_pipelines.store.ledger import StockMove, move_stock
from midas_pipelines.store.payloads import Vault
from midas_pipelines.store.tables import (
    mappings,
    marketplace_order_lines,
    marketplace_orders,
    order_processing_logs,
)
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.lookup import items_by_sku, present_items
from midas_pipelines.storefront.orders import insert_history, insert_order_items, insert_orders
from midas_pipelines.sync.orders.sales import Sale, SaleLine, storable
from midas_pipelines.sync.orders.statuses import follow_statuses, local_status, payment_status

CHANNEL = "fourseller"

DEADLOCK, DEADLOCK_TRIES = "40P01", 5


class Flaw(StrEnum):
    """Why an imported order needs a person: its `exception`."""

    UNMAPPED = "unmapped"
    OVERSOLD = "oversold"
    QUANTITY = "quantity"
    TOTAL = "total_mismatch"
    STATUS = "unknown_status"


@dataclass
class Imported:
    """What became of a batch; counts of orders, and the first few by name."""

    imported: int = 0
    duplicates: int = 0
    exceptions: int = 0
    failed: int = 0
    moved_on: int = 0  # known orders whose status changed
    preview: list[dict[str, str]] = field(default_factory=list)

    def add(self, other: Imported) -> None:
        """Counts another batch in."""
        for name in ("imported", "duplicates", "exceptions", "failed", "moved_on"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.preview = (self.preview + other.preview)[:20]


@dataclass(slots=True)
class _Line:
    sale: Sale
    line: SaleLine
    item: ItemKey | None
    order_item_id: int = 0
    taken: int = 0

    @property
    def wanted(self) -> int:
        return max(0, self.line.quantity) if self.sale.takes_stock and self.item is not None else 0

    @property
    def flaw(self) -> Flaw | None:
        if self.line.odd:
            return Flaw.QUANTITY
        if self.item is None:
            return Flaw.UNMAPPED
        return Flaw.OVERSOLD if self.taken < self.wanted else None


def import_sales(database: Database, sales: Sequence[Sale], vault: Vault, run_id: str | None) -> Imported:
    """Imports the sales that are new and moves the known ones on; raises nothing for a bad sale.

    Args:
        database: the shop's.
        sales: any number; the caller chooses the size of a transaction.
        vault: seals the payloads.
        run_id: noted in each log row.
    """
    batch = list({sale.order_id: sale for sale in sorted(sales, key=_age)}.values())
    result = Imported(duplicates=len(sales) - len(batch))
    try:
        result.add(_import_at_once(database, batch, vault, run_id))
    except (IntegrityError, DataError):
        for sale in batch:
            result.add(_import_alone(database, sale, vault, run_id))
    return result


def _import_alone(database: Database, sale: Sale, vault: Vault, run_id: str | None) -> Imported:
    """Imports one sale, or sets it aside with the reason."""
    try:
        return _import_at_once(database, [sale], vault, run_id)
    except (IntegrityError, DataError) as trouble:
        return _set_aside(database, sale, vault, run_id, trouble)


def _import_at_once(database: Database, sales: list[Sale], vault: Vault, run_id: str | None) -> Imported:
    """Imports the sales in one transaction, begun again when PostgreSQL has ended it to part two that wait in a ring."""
    for _ in range(DEADLOCK_TRIES - 1):
        try:
            with database.writing() as connection:
                return _import(connection, sales, vault, run_id)
        except OperationalError as trouble:
            if getattr(trouble.orig, "sqlstate", None) != DEADLOCK:
                raise
    with database.writing() as connection:
        return _import(connection, sales, vault, run_id)


def _age(sale: Sale) -> tuple[float, float]:
    return (sale.placed_at.timestamp(), (sale.updated_at or sale.placed_at).timestamp())


def _import(connection: sa.Connection, sales: list[Sale], vault: Vault, run_id: str | None) -> Imported:
    fresh = _claim_orders(connection, sales, vault)
    known = [sale for sale in sales if sale.order_id not in fresh]
    new = [sale for sale in sales if sale.order_id in fresh]
    result = Imported(imported=len(new), duplicates=len(known))
    lines = _match_lines(connection, new)
    selling = {line.item for line in lines if line.item is not None and line.wanted}
    result.moved_on = follow_statuses(connection, known, run_id, selling=selling)
    if new:
        local_ids = _write_orders(connection, new, lines)
        _take_stock(connection, lines)
        flaws = _finish(connection, new, fresh, local_ids, lines)
        _log(connection, new, lines, flaws, run_id)
        result.exceptions = sum(1 for found in flaws.values() if found)
        result.preview = [_preview(sale, flaws[sale.order_id]) for sale in new[:20]]
    return result


def _claim_orders(connection: sa.Connection, sales: list[Sale], vault: Vault) -> dict[str, int]:
    """Our row ids of the orders that this transaction may import: new ones, and ones that were set aside before.

    The unique key decides, not a look beforehand: of two importers one gets the row, the other waits and finds it.
    """
    ids = [sale.order_id for sale in sales]
    table = marketplace_orders.c
    mine = sa.and_(table.channel == CHANNEL, table.marketplace_order_id.in_(ids))
    query = sa.select(table.id, table.marketplace_order_id, table.outcome).where(mine)
    present = {row.marketplace_order_id: row for row in connection.execute(query)}
    rows = [_order_row(sale, vault) for sale in sales if sale.order_id not in present]
    claimed: dict[str, int] = {}
    if rows:
        insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
        statement = (
            insert(marketplace_orders)
            .on_conflict_do_nothing()
            .returning(table.id, table.marketplace_order_id)
        )
        made = connection.execute(statement, sorted(rows, key=lambda row: str(row["marketplace_order_id"])))
        claimed = {row.marketplace_order_id: row.id for row in made}
    again = [row.id for row in present.values() if row.outcome == "set_aside"]
    if again:
        retried = sa.select(table.id, table.marketplace_order_id).where(
            table.id.in_(again), table.local_order_id.is_(None)
        )
        freed = {row.marketplace_order_id: row.id for row in connection.execute(retried.with_for_update())}
        for sale in sales:
            if sale.order_id in freed:  # what is on record is only that it could not be read
                update = sa.update(marketplace_orders).where(table.id == freed[sale.order_id])
                connection.execute(update.values(_order_row(sale, vault)))
        claimed |= freed
    return claimed


def _order_row(sale: Sale, vault: Vault) -> dict[str, Any]:
    return {
        "channel": CHANNEL,
        "marketplace_order_id": sale.order_id,
        "sales_channel": sale.sales_channel,
        "status": sale.status.value,
        "status_word": sale.status_word,
        "outcome": "imported",
        "currency": sale.currency,
        "total": sale.total,
        "lines_total": sale.lines_total,
        "shipping_cost": sale.shipping_cost,
        "tax": sale.tax,
        "discount": sale.discount,
        "payload": vault.seal(sale.raw),
        "placed_at": sale.placed_at,
        "source_updated_at": sale.updated_at,
    }


def _match_lines(connection: sa.Connection, sales: list[Sale]) -> list[_Line]:
    """Each line with the item it sold: by 4Seller's product id first, for a SKU may have been renamed since."""
    product_ids = {line.fourseller_product_id for sale in sales for line in sale.lines} - {None}
    skus = {line.sku for sale in sales for line in sale.lines} - {None}
    table = mappings.c
    query = sa.select(table.fourseller_product_id, table.product_id, table.variant_id)
    rows = (
        connection.execute(query.where(table.fourseller_product_id.in_(product_ids))) if product_ids else ()
    )
    tied = {row.fourseller_product_id: (row.product_id, row.variant_id) for row in rows}
    present = present_items(connection, set(tied.values()))
    by_id: dict[str | None, ItemKey] = {key: item for key, item in tied.items() if item in present}
    by_sku = items_by_sku(connection, {sku for sku in skus if sku})
    return [
        _Line(sale, line, by_id.get(line.fourseller_product_id) or by_sku.get(line.sku or ""))
        for sale in sales
        for line in sale.lines
    ]


def _write_orders(connection: sa.Connection, sales: list[Sale], lines: list[_Line]) -> dict[str, int]:
    by_number = insert_orders(connection, [_local_order(sale) for sale in sales])
    local_ids = {sale.order_id: by_number[sale.order_number] for sale in sales}
    item_ids = insert_order_items(
        connection, [_local_item(line, local_ids[line.sale.order_id]) for line in lines]
    )
    for line, item_id in zip(lines, item_ids, strict=True):
        line.order_item_id = item_id
    insert_history(
        connection,
        [
            {
                "order_id": local_ids[sale.order_id],
                "status": local_status(sale.status),
                "notes": _origin(sale),
            }
            for sale in sales
        ],
    )
    return local_ids


def _local_order(sale: Sale) -> dict[str, Any]:
    return {
        "order_number": sale.order_number,
        "status": local_status(sale.status),
        "total_amount": sale.total,
        "shipping_address": sale.address,
        "billing_address": sale.address,
        "payment_method": {"type": "marketplace", "channel": sale.sales_channel or CHANNEL},
        "payment_status": payment_status(sale.status, paid=sale.paid),
        "shipping_cost": sale.shipping_cost,
        "notes": f"{_origin(sale)}, paid in {sale.currency}",
        "created_at": sale.placed_at,
        "updated_at": sale.updated_at or sale.placed_at,
    }


def _local_item(line: _Line, order_id: int) -> dict[str, Any]:
    product_id, variant_id = line.item or (None, None)
    return {
        "order_id": order_id,
        "product_id": product_id,
        "variant_id": variant_id,
        "product_name": line.line.title,
        "quantity": line.line.quantity,
        "price": line.line.price,
        "total_price": line.line.total,
        "created_at": line.sale.placed_at,
    }


def _origin(sale: Sale) -> str:
    return f"{sale.sales_channel or 'marketplace'} order {sale.order_id} through 4Seller"


def _take_stock(connection: sa.Connection, lines: list[_Line]) -> None:
    """First come, first served: the oldest order takes first, and what is not there is left owing."""
    taking = [line for line in lines if line.wanted]
    moves = [
        StockMove(
            line.item, -line.wanted, CHANNEL, "sale", line_reference(line.sale.order_id, line.line.line)
        )
        for line in taking
        if line.item is not None
    ]
    for line, delta in zip(taking, move_stock(connection, moves), strict=True):
        line.taken = -delta


def line_reference(order_id: str, line: int) -> str:
    """The ledger's name for one line of a marketplace order."""
    return f"{CHANNEL}:{order_id}:{line}"


def _finish(
    connection: sa.Connection,
    sales: list[Sale],
    row_ids: dict[str, int],
    local_ids: dict[str, int],
    lines: list[_Line],
) -> dict[str, list[str]]:
    if lines:
        connection.execute(sa.insert(marketplace_order_lines), [_line_row(line, row_ids) for line in lines])
    flaws = {sale.order_id: _flaws(sale) for sale in sales}
    for line in lines:
        flaw = line.flaw
        if flaw is not None and flaw.value not in flaws[line.sale.order_id]:
            flaws[line.sale.order_id].append(flaw.value)
    statement = sa.update(marketplace_orders).where(marketplace_orders.c.id == sa.bindparam("row"))
    connection.execute(
        statement.values(
            local_order_id=sa.bindparam("local"),
            exception=sa.bindparam("flaws"),
            outcome="imported",
            reason=None,
        ),
        [
            {
                "row": row_ids[sale.order_id],
                "local": local_ids[sale.order_id],
                "flaws": ",".join(sorted(flaws[sale.order_id])) or None,
            }
            for sale in sales
        ],
    )
    return flaws


def _line_row(line: _Line, row_ids: dict[str, int]) -> dict[str, Any]:
    product_id, variant_id = line.item or (None, None)
    return {
        "order_id": row_ids[line.sale.order_id],
        "line": line.line.line,
        "sku": line.line.sku,
        "fourseller_product_id": line.line.fourseller_product_id,
        "title": line.line.title,
        "quantity": line.line.quantity,
        "price": line.line.price,
        "order_item_id": line.order_item_id,
        "product_id": product_id,
        "variant_id": variant_id,
        "taken": line.taken,
        "exception": line.flaw.value if line.flaw else None,
    }


def _flaws(sale: Sale) -> list[str]:
    flaws = [] if sale.adds_up else [Flaw.TOTAL.value]
    return flaws if sale.known_status else [*flaws, Flaw.STATUS.value]


def _log(
    connection: sa.Connection,
    sales: list[Sale],
    lines: list[_Line],
    flaws: dict[str, list[str]],
    run_id: str | None,
) -> None:
    rows = [_log_row(sale.order_id, "imported", _summary(sale), run_id) for sale in sales]
    for line in lines:
        detail = f"Line {line.line.line}, {line.line.sku or 'no SKU'}: "
        if line.taken:
            rows.append(
                _log_row(line.sale.order_id, "deducted", f"{detail}took {line.taken} from stock.", run_id)
            )
        if line.flaw is not None:
            rows.append(_log_row(line.sale.order_id, line.flaw.value, detail + _explain(line), run_id))
    for sale in sales:
        if Flaw.TOTAL.value in flaws[sale.order_id]:
            rows.append(_log_row(sale.order_id, Flaw.TOTAL.value, _sum(sale), run_id))
        if Flaw.STATUS.value in flaws[sale.order_id]:
            detail = f"4Seller's status “{sale.status_word}” is not known; the order counts as pending."
            rows.append(_log_row(sale.order_id, Flaw.STATUS.value, detail, run_id))
    connection.execute(sa.insert(order_processing_logs), rows)


def _log_row(order_id: str, step: str, detail: str, run_id: str | None) -> dict[str, Any]:
    return {
        "channel": CHANNEL,
        "marketplace_order_id": order_id,
        "step": step,
        "detail": detail,
        "run_id": run_id,
    }


def _summary(sale: Sale) -> str:
    return (
        f"{sale.sales_channel or 'Marketplace'} order of {sale.placed_at:%Y-%m-%d %H:%M} UTC, {sale.status_word or 'no status'}, "
        f"{len(sale.lines)} lines, {sale.total} {sale.currency}, as {sale.order_number}."
    )


def _explain(line: _Line) -> str:
    match line.flaw:
        case Flaw.UNMAPPED:
            return "no item of the shop has this SKU; no stock was taken. Map it to an item."
        case Flaw.OVERSOLD:
            return (
                f"{line.wanted} were sold and {line.taken} were there; {line.wanted - line.taken} are owed."
            )
        case _:
            return f"the quantity is {line.line.quantity}; check the order on the marketplace."


def _sum(sale: Sale) -> str:
    return (
        f"Lines {sale.lines_total} + shipping {sale.shipping_cost} + tax {sale.tax} - discount {sale.discount} "
        f"is not the total {sale.total} {sale.currency} that the marketplace gave; the total is kept."
    )


def _preview(sale: Sale, flaws: list[str]) -> dict[str, str]:
    return {
        "order": sale.order_id,
        "channel": sale.sales_channel or "",
        "total": f"{sale.total} {sale.currency}",
        "lines": str(len(sale.lines)),
        "exception": ", ".join(sorted(flaws)),
    }


def _set_aside(
    database: Database, sale: Sale, vault: Vault, run_id: str | None, trouble: IntegrityError | DataError
) -> Imported:
    # The driver's text names the rule and can hold values of the order: only its first line, without the row, is kept.
    reason = (
        f"The shop's tables refused it: {type(trouble.orig).__name__}. Check its order number and amounts."
    )
    return set_aside(database, sale.order_id, sale.raw, reason, vault, run_id)


def set_aside(
    database: Database, order_id: str, raw: Any, reason: str, vault: Vault, run_id: str | None
) -> Imported:
    """Keeps an order that cannot be imported, with its reason, so that it is neither lost nor in the way of others."""
    order_id = storable(order_id)[:200]
    row = {
        "channel": CHANNEL,
        "marketplace_order_id": order_id,
        "status": "pending",
        "outcome": "set_aside",
        "reason": reason,
        "payload": vault.seal(storable(raw)),
    }
    with database.writing() as connection:
        insert = postgresql_insert if database.is_postgresql else sqlite_insert
        statement = insert(marketplace_orders).on_conflict_do_nothing().returning(marketplace_orders.c.id)
        new = connection.execute(statement, row).first() is not None
        if new:
            connection.execute(
                sa.insert(order_processing_logs), [_log_row(order_id, "failed", reason, run_id)]
            )
    preview = [
        {"order": order_id, "channel": "", "total": "", "lines": "", "exception": f"set aside: {reason}"}
    ]
    return Imported(failed=int(new), duplicates=int(not new), preview=preview if new else [])
