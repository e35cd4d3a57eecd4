"""Importing marketplace sales: order, lines, stock deduction, ledger and log in one transaction, once each.

Polling and pushed events come through `import_sales` alike. A batch is one statement for each table; when one sale
in it breaks a rule of the shop's tables the batch is rolled back and halved until that sale is alone, so that only the
bad one is set aside.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from midas_pipelines.store.database import Database
from midas_pipelines.store.ledger import Stock, StockMove, book_moves
from midas_pipelines.store.payloads import Vault
from midas_pipelines.store.tables import marketplace_order_lines, marketplace_orders, order_processing_logs
from midas_pipelines.storefront.bulk import (
    any_of,
    insert_new,
    insert_rows,
    pipelined,
    reserve_ids,
    update_rows,
)
from midas_pipelines.storefront.orders import insert_history, insert_order_items, insert_orders
from midas_pipelines.storefront.schema import order_items, orders
from midas_pipelines.storefront.stock import lock_stock
from midas_pipelines.sync.orders import rows, set_aside
from midas_pipelines.sync.orders.backorders import orders_waiting, serve
from midas_pipelines.sync.orders.clerk import Clerk
from midas_pipelines.sync.orders.confirmations import queue_received
from midas_pipelines.sync.orders.content import Content
from midas_pipelines.sync.orders.flaws import explain_sale, sale_flaws, written
from midas_pipelines.sync.orders.following import follow, items_held, orders_behind
from midas_pipelines.sync.orders.lines import CHANNEL, SoldLine, find_items, match_lines, reference
from midas_pipelines.sync.orders.locking import lock_rows
from midas_pipelines.sync.orders.mail_rules import SILENT, MailRules
from midas_pipelines.sync.orders.oversold import sound_alarm
from midas_pipelines.sync.orders.sales import Sale, newest_states

MANY = 100
DEADLOCK, DEADLOCK_TRIES = "40P01", 5
PREVIEW = 20


@dataclass
class Imported:
    """What became of a batch; counts of orders, and the first few by name."""

    imported: int = 0
    duplicates: int = 0
    exceptions: int = 0
    failed: int = 0
    moved_on: int = 0  # known orders whose status or content changed
    days: dict[str, int] = field(default_factory=dict)  # imported orders by the day they were placed, in UTC
    preview: list[dict[str, str]] = field(default_factory=list)

    def add(self, other: Imported) -> None:
        """Counts another batch in."""
        for name in ("imported", "duplicates", "exceptions", "failed", "moved_on"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.days = dict(Counter(self.days) + Counter(other.days))
        self.preview = (self.preview + other.preview)[:PREVIEW]


def import_sales(
    database: Database, sales: Sequence[Sale], vault: Vault, run_id: str | None, *, mail: MailRules = SILENT
) -> Imported:
    """Imports the sales that are new and moves the known ones on; raises nothing for a bad sale.

    Args:
        database: the shop's.
        sales: any number; the caller chooses the size of a transaction.
        vault: seals the payloads.
        run_id: noted in each log row.
        mail: which customers get a confirmation.
    """
    clerk = Clerk(run_id, vault, mail)
    batch = newest_states(sales)
    result = Imported(duplicates=len(sales) - len(batch))
    with _collecting_later(len(batch)):
        result.add(_import_or_halve(database, batch, clerk))
    return result


@contextmanager
def _collecting_later(sales: int) -> Iterator[None]:
    """Spares a large batch the search for garbage in cycles: its rows have none, and looking through them again and
    again is a sixth of an import's time."""
    if sales < MANY or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _import_or_halve(database: Database, batch: Sequence[Sale], clerk: Clerk) -> Imported:
    """Imports the batch in one transaction; where a sale in it cannot be written, in two halves, the first one first."""
    if not batch:
        return Imported()
    try:
        return _import_at_once(database, batch, clerk)
    except (IntegrityError, DataError) as trouble:
        if len(batch) == 1:
            return _leave(database, batch[0], type(trouble.orig).__name__, clerk)
    middle = len(batch) // 2
    result = _import_or_halve(database, batch[:middle], clerk)
    result.add(_import_or_halve(database, batch[middle:], clerk))
    return result


def _leave(database: Database, sale: Sale, kind: str, clerk: Clerk) -> Imported:
    """Sets a sale aside that the shop's tables refuse; of one that is known, still follows the status.

    Args:
        kind: the rule's; the driver's text can hold values of the order.
    """
    reason = f"The shop's tables refused it: {kind}. Check its order number and amounts."
    kept = set_aside.keep(database, sale.order_id, sale.raw, reason, clerk.vault, clerk.run_id)
    if kept is not None:
        return left_aside(sale.order_id, reason, new=kept == "new")
    if sale.trouble is not None:  # even the status alone cannot be written; the next reading tries again
        return Imported(failed=1)
    return _import_or_halve(database, [replace(sale, content=Content(), trouble=reason)], clerk)


def left_aside(order_id: str, reason: str, *, new: bool) -> Imported:
    """The result of an order that was set aside, now or before."""
    preview = [
        {"order": order_id, "channel": "", "total": "", "lines": "", "exception": f"set aside: {reason}"}
    ]
    return Imported(failed=int(new), duplicates=int(not new), preview=preview if new else [])


def _import_at_once(database: Database, sales: Sequence[Sale], clerk: Clerk) -> Imported:
    """Imports the sales in one transaction, begun again when PostgreSQL has ended it to part two that wait in a ring."""
    for _ in range(DEADLOCK_TRIES - 1):
        try:
            with database.writing() as connection:
                return _import(connection, sales, clerk)
        except OperationalError as trouble:
            if getattr(trouble.orig, "sqlstate", None) != DEADLOCK:
                raise
    with database.writing() as connection:
        return _import(connection, sales, clerk)


def _import(connection: sa.Connection, sales: Sequence[Sale], clerk: Clerk) -> Imported:
    claims = _claim(connection, sales, clerk.vault)
    new = [sale for sale in sales if sale.order_id in claims]
    known = [sale for sale in sales if sale.order_id not in claims]
    result = Imported(imported=len(new), duplicates=len(known))
    lines = match_lines(connection, new)
    stock, result.moved_on = _lock_and_follow(connection, known, lines, clerk)
    if new:
        _write(connection, new, lines, claims, stock, clerk, result)
    return result


def _lock_and_follow(
    connection: sa.Connection, known: Sequence[Sale], lines: Sequence[SoldLine], clerk: Clerk
) -> tuple[Stock, int]:
    """Moves known orders on, and serves whoever waits for an item before the new orders may take it.

    Returns:
        The stock of what is about to be sold, locked; how many known orders changed.
    """
    selling = {line.item for line in lines if line.item is not None and line.wanted}
    behind = orders_behind(connection, known)
    touched = set(selling)
    if behind:
        touched |= set(
            find_items(connection, (line for sale in behind.values() for line in sale.lines)).values()
        )
        touched |= set(items_held(connection, list(behind)))
    waiting = orders_waiting(connection, touched)
    held = lock_rows(connection, behind.keys() | waiting)
    stock = lock_stock(connection, touched)
    if not held:
        return stock, 0
    serve(connection, waiting, clerk)
    moved = sum(follow(connection, row, behind[row.id], clerk) for row in held if row.id in behind)
    serve(connection, waiting, clerk)  # what a cancellation has just freed
    return lock_stock(connection, selling), moved


def _write(
    connection: sa.Connection,
    sales: Sequence[Sale],
    lines: list[SoldLine],
    claims: dict[str, _Claim],
    stock: Stock,
    clerk: Clerk,
    result: Imported,
) -> None:
    for line, item_id in zip(lines, reserve_ids(connection, order_items, len(lines)), strict=True):
        line.order_item_id = item_id
    with pipelined(connection):
        _take_stock(connection, lines, stock)
        _write_shop_orders(connection, sales, lines, claims)
        flawed = _write_lines(connection, sales, lines, claims)
        _log(connection, sales, lines, clerk)
    sound_alarm(connection, filter(None, (line.short for line in lines)))
    for sale in sales:
        if not sale.known_status:
            set_aside.tell_of_unknown_word(connection, sale.status_word, sale.order_id)
    queue_received(connection, [(claims[sale.order_id].row_id, sale) for sale in sales], clerk.mail)
    result.exceptions = len(flawed)
    result.days = dict(Counter(sale.placed_at.date().isoformat() for sale in sales))
    result.preview = [rows.preview(sale, flawed.get(sale.order_id)) for sale in sales[:PREVIEW]]


@dataclass(frozen=True, slots=True)
class _Claim:
    row_id: int  # of marketplace_orders
    local_id: int  # of the shop's order, reserved


def _claim(connection: sa.Connection, sales: Sequence[Sale], vault: Vault) -> dict[str, _Claim]:
    """The orders that this transaction may import: new ones, and ones that were set aside before.

    The unique key decides, not a look beforehand: of two importers one gets the row, the other waits and finds it.
    """
    table = marketplace_orders.c
    whole = {sale.order_id: sale for sale in sales if sale.trouble is None}
    mine = any_of(connection, table.marketplace_order_id, list(whole))
    query = sa.select(table.id, table.marketplace_order_id, table.outcome)
    query = query.where(table.channel == CHANNEL, mine)
    present = {row.marketplace_order_id: row for row in connection.execute(query)}
    fresh = sorted(
        (sale for sale in whole.values() if sale.order_id not in present), key=lambda sale: sale.order_id
    )
    claims = _insert_claims(connection, fresh, vault)
    aside = {row.id for row in present.values() if row.outcome == "set_aside"}
    if aside:
        claims |= _take_up(connection, aside, whole, vault)
    return claims


def _insert_claims(connection: sa.Connection, sales: list[Sale], vault: Vault) -> dict[str, _Claim]:
    row_ids = reserve_ids(connection, marketplace_orders, len(sales))
    local_ids = _reserve_local_ids(connection, len(sales))
    claims = {
        sale.order_id: _Claim(row_id, local_id)
        for sale, row_id, local_id in zip(sales, row_ids, local_ids, strict=True)
    }
    made = [
        {"id": claim.row_id} | rows.marketplace_order(sale, claim.local_id, vault)
        for sale, claim in zip(sales, claims.values(), strict=True)
    ]
    won = insert_new(connection, marketplace_orders, made, key="marketplace_order_id")
    return {order_id: claim for order_id, claim in claims.items() if order_id in won}


def _take_up(
    connection: sa.Connection, row_ids: set[int], by_id: dict[str, Sale], vault: Vault
) -> dict[str, _Claim]:
    """Set-aside orders, written anew: what is on record of them is only that they could not be read."""
    table = marketplace_orders.c
    query = sa.select(table.id, table.marketplace_order_id).where(
        table.id.in_(row_ids), table.outcome == "set_aside"
    )
    freed = connection.execute(query.order_by(table.id).with_for_update()).all()
    local_ids = _reserve_local_ids(connection, len(freed))
    claims = {
        row.marketplace_order_id: _Claim(row.id, local_id)
        for row, local_id in zip(freed, local_ids, strict=True)
    }
    cleared = {"reason": None, "exception": None}
    update_rows(
        connection,
        marketplace_orders,
        [
            {"id": claim.row_id} | rows.marketplace_order(by_id[order_id], claim.local_id, vault) | cleared
            for order_id, claim in claims.items()
        ],
    )
    for order_id in claims:
        set_aside.take_up(connection, order_id)
    return claims


def _reserve_local_ids(connection: sa.Connection, number: int) -> list[int]:
    if connection.dialect.name == "postgresql":
        return reserve_ids(connection, orders, number)
    known = connection.scalar(sa.select(sa.func.max(marketplace_orders.c.local_order_id)))
    return reserve_ids(connection, orders, number, above=known or 0)


def _write_shop_orders(
    connection: sa.Connection, sales: Sequence[Sale], lines: list[SoldLine], claims: dict[str, _Claim]
) -> None:
    local = {sale.order_id: claims[sale.order_id].local_id for sale in sales}
    insert_orders(connection, [rows.shop_order(sale, local[sale.order_id]) for sale in sales])
    insert_order_items(connection, [rows.shop_item(line, local[line.sale.order_id]) for line in lines])
    insert_history(connection, [rows.shop_history(sale, local[sale.order_id]) for sale in sales])


def _take_stock(connection: sa.Connection, lines: list[SoldLine], stock: Stock) -> None:
    """First come, first served: the oldest order takes first, and what is not there is left owing."""
    taking = [line for line in lines if line.wanted]
    moves = [
        StockMove(line.item, -line.wanted, CHANNEL, "sale", reference(line.sale.order_id, line.number))
        for line in taking
        if line.item is not None
    ]
    for line, delta in zip(taking, book_moves(connection, moves, stock), strict=True):
        line.taken = -delta


def _write_lines(
    connection: sa.Connection, sales: Sequence[Sale], lines: list[SoldLine], claims: dict[str, _Claim]
) -> dict[str, str]:
    """Writes our lines, and on the orders what a person must see; returns that by order."""
    made = [rows.marketplace_line(line, claims[line.sale.order_id].row_id) for line in lines]
    insert_rows(connection, marketplace_order_lines, made)
    found = {sale.order_id: {flaw.value for flaw in sale_flaws(sale)} for sale in sales}
    for line in lines:
        found[line.sale.order_id].update(flaw.value for flaw in line.flaws)
    flawed = {order_id: text for order_id, flaws in found.items() if (text := written(flaws)) is not None}
    marks = [{"id": claims[order_id].row_id, "exception": text} for order_id, text in flawed.items()]
    update_rows(connection, marketplace_orders, marks)
    return flawed


def _log(connection: sa.Connection, sales: Sequence[Sale], lines: list[SoldLine], clerk: Clerk) -> None:
    steps = [rows.log_row(sale.order_id, "imported", rows.summary(sale), clerk.run_id) for sale in sales]
    taken: dict[str, list[SoldLine]] = {}
    for line in lines:
        if line.taken:
            taken.setdefault(line.sale.order_id, []).append(line)
    for order_id, of_order in taken.items():
        steps.append(rows.log_row(order_id, "deducted", rows.deduction(of_order), clerk.run_id))
    for line in lines:
        for flaw in line.flaws:
            steps.append(rows.log_row(line.sale.order_id, flaw.value, line.explain(flaw), clerk.run_id))
    for sale in sales:
        for wrong in sale_flaws(sale):
            steps.append(rows.log_row(sale.order_id, wrong.value, explain_sale(sale, wrong), clerk.run_id))
    insert_rows(connection, order_processing_logs, steps)
