"""Writes a batch of sales in one transaction: sorts it, locks rows, and runs one statement for each table.

Each statement is answered before the next is sent, and new orders lock the stock after their own rows are written: a
process that freezes while it holds the stock is idle to PostgreSQL, which ends its session (`idle_seconds`).
A batch may run ahead of the one before it. What it writes ahead are rows of new orders and their lines, each in one batch alone; whatever
batches share (stock, known and quarantined orders, backorders, alerts) is read and locked in its turn. Should a trigger
of the shop's lock more, it lets go before the one ahead gives up (`TURN_SECONDS`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.known_words import known_channel, known_currency
from midas_pipelines.store.schema import tables
from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront import writing
from midas_pipelines.storefront.catalog import lock_stock
from midas_pipelines.storefront.schema import order_status_history, orders
from midas_pipelines.sync.orders.changes.exceptions import alert_unknown_word, end_quarantine
from midas_pipelines.sync.orders.changes.inbound import apply_update, has_news
from midas_pipelines.sync.orders.customer_mail import queue_received
from midas_pipelines.sync.orders.model import lines, order_log
from midas_pipelines.sync.orders.model.lines import CHANNEL, SoldLine, items_named, without_personal_data
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.orders.stock import pending_lines
from midas_pipelines.sync.orders.stock.units import allocate_lines, raise_oversold_alerts, write_lines

COUNTS = ("imported", "already_known", "exceptions", "failed", "updated", "mapped")
PREVIEW = 20
EXCEPTIONS = frozenset(lines.OrderException)
TURN_SECONDS = 0.4
"""How long a transaction that has written waits for its turn: less than others wait for what it holds, and than it may
be idle (`lock_seconds`, `idle_seconds`)."""


class OutOfTurn(Exception):
    """The batch before is not done: roll back, and write again in turn."""


@dataclass
class OrderCounts:
    """Counts of orders, and a preview of the first. `exceptions` are imported but need a person."""

    imported: int = 0
    already_known: int = 0
    exceptions: int = 0
    failed: int = 0
    updated: int = 0  # known orders whose status or content changed
    mapped: int = 0  # lines that were unmapped and have an item now
    preview: list[dict[str, str]] = field(default_factory=list)

    def count(self, other: OrderCounts) -> None:
        """Adds the counts of a batch."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.preview = (self.preview + other.preview)[:PREVIEW]


@dataclass
class ImportCounts(OrderCounts):
    """The result of importing a batch."""

    left_out: dict[str, str] = field(default_factory=dict)  # unknown orders that are not imported, and why
    postponed: dict[str, str] = field(default_factory=dict)  # to try again, and why
    refused: set[str] = field(default_factory=set)  # of those, the ones that no lock explains: ever later
    unread: set[str] = field(default_factory=set)  # quarantined, since they cannot be read
    new: list[str] = field(default_factory=list)  # the ids of the imported orders

    def add(self, other: ImportCounts) -> None:
        """Adds the result of another batch."""
        self.count(other)
        self.postponed |= other.postponed
        self.refused |= other.refused
        self.unread |= other.unread
        self.left_out |= other.left_out
        self.new += other.new


def write_batch(
    connection: sa.Connection, sales: Sequence[Sale], order_context: OrderContext, turn: Event
) -> ImportCounts:
    """Imports new sales and updates known orders in a writing transaction: one sale for each order, the first placed first.
    `turn` is set once the batch before this one has ended.

    Raises:
        OutOfTurn: it does not end soon.
        RowsBusy: another transaction holds rows that it needs; it names the sales that need them, or none where only
            halving the batch finds them.
        sqlalchemy.exc.DBAPIError: one of the sales cannot be written; or another importer was faster with one of them, by the
            constraint `marketplace_orders_once`.
    """
    batch = _sort_out(connection, sales)
    try:
        if batch.new:
            _reserve_ids(connection, batch)
            _write_orders(connection, batch, order_context)
        if not turn.wait(TURN_SECONDS):
            raise OutOfTurn
        held, waiting, unmapped = _lock(connection, batch, order_context)
        pending_lines.allocate_backorder(waiting)  # they come before new orders
        known = [order for order in held if order.id in batch.behind]
        moved = sum([apply_update(order, batch.behind[order.id]) for order in known])
        if moved:
            pending_lines.allocate_backorder(waiting)  # stock that a cancellation just released
        result = ImportCounts(imported=len(batch.new), updated=moved, left_out=batch.left_out)
        result.already_known = len(sales) - len(batch.new) - len(batch.left_out)
        result.mapped = pending_lines.tie_lines(connection, held, unmapped)
        if batch.new:
            _write_orders(connection, batch, order_context, renewed=True)
            _allocate(connection, batch, order_context, result)
    except writing.RowsBusy as busy:
        place = {"products": 0, "product_variants": 1}.get(busy.table)
        if busy.table == marketplace_orders.name:
            busy.orders = {sale.order_id for row, sale in batch.behind.items() if row in busy.ids}
        elif place is not None:
            sold = (line for line in batch.lines if line.item is not None and line.item[place] in busy.ids)
            busy.orders = {line.sale.order_id for line in sold}
        raise
    return result


@dataclass
class _Sorted:
    """A batch as this transaction finds it. The unique key decides which importer writes an order: the second one is
    retried, and finds it there."""

    new: list[Sale]  # to be imported
    lines: list[SoldLine]  # theirs
    quarantined: dict[str, int]  # our rows of the new orders that were quarantined before
    behind: dict[int, Sale]  # known orders with news, by our row
    left_out: dict[str, str]  # unknown orders that are not to be imported, and why
    erased: set[str]  # quarantined orders whose buyer is erased
    row_ids: dict[str, int] = field(default_factory=dict)  # of our rows of the new orders
    local_ids: dict[str, int] = field(default_factory=dict)  # of the shop's
    # of the new orders
    exceptions: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def _sort_out(connection: sa.Connection, sales: Sequence[Sale]) -> _Sorted:
    table = marketplace_orders.c
    mine = writing.any_of(connection, table.marketplace_order_id, [sale.order_id for sale in sales])
    query = sa.select(marketplace_orders).where(table.channel == CHANNEL, mine)
    present = {row.marketplace_order_id: row for row in connection.execute(query)}
    batch = _Sorted([], [], {}, {}, {}, {name for name, row in present.items() if row.erased_at is not None})
    for sale in sales:
        row, wanted = present.get(sale.order_id), sale.unreadable_reason is None and sale.left_out is None
        if row is None and sale.left_out:
            batch.left_out[sale.order_id] = sale.left_out
        elif wanted and (row is None or row.outcome == "quarantined"):
            if row is not None:
                batch.quarantined[sale.order_id] = row.id
            erased = sale.order_id in batch.erased
            batch.new.append(without_personal_data(connection, sale) if erased else sale)
        elif row is not None and row.outcome == "imported" and has_news(StoredOrder(connection, row), sale):
            batch.behind[row.id] = sale
    batch.lines = lines.match_lines(connection, batch.new)
    return batch


def _lock(
    connection: sa.Connection, batch: _Sorted, order_context: OrderContext
) -> tuple[list[StoredOrder], list[StoredOrder], Sequence[sa.Row[Any]]]:
    """Locks the orders to write, then the stock of every item that they or the new orders may move. Returns the orders that the
    transaction holds, those of them that wait for stock that it holds too, and the unmapped lines with the same identifiers
    as new ones."""
    new, names = set(batch.row_ids.values()), {line.line.named for line in batch.lines}
    unmapped = [line for line in pending_lines.lines_naming(connection, names) if line.order_id not in new]
    touched = {line.item for line in batch.lines if line.item is not None and line.wanted}
    if batch.behind:
        names = {line.named for sale in batch.behind.values() for line in sale.lines}
        ours = marketplace_order_lines.c
        holds = (
            ours.order_id.in_(batch.behind),
            ours.allocated > ours.released,
            ours.product_id.is_not(None),
        )
        held_items = connection.execute(sa.select(ours.product_id, ours.variant_id).where(*holds))
        touched |= {*items_named(connection, names).values(), *map(tuple, held_items)}
    waiting = pending_lines.orders_backordered(connection, touched)
    mapping = {line.order_id for line in unmapped}
    rows = {*batch.behind, *waiting, *mapping, *batch.quarantined.values()}
    held = order_log.lock_rows(connection, rows, order_context)
    if held:
        lock_stock(connection, touched)
    changed = {  # by another importer, or erased, since the batch was sorted out
        row.marketplace_order_id
        for row in held
        if row.outcome != "quarantined" or (row.erased_at and row.marketplace_order_id not in batch.erased)
    } & batch.quarantined.keys()
    if changed:
        batch.new = [sale for sale in batch.new if sale.order_id not in changed]
        batch.lines = [line for line in batch.lines if line.sale.order_id not in changed]
    return held, [order for order in held if order.id in waiting], unmapped


def _reserve_ids(connection: sa.Connection, batch: _Sorted) -> None:
    """Reserves the ids of the orders, so that rows can refer to one another before they are written."""
    fresh = [sale.order_id for sale in batch.new if sale.order_id not in batch.quarantined]
    above = {}
    if connection.dialect.name != "postgresql":  # SQLite reuses the id of a deleted last order
        pointers = (marketplace_orders.c.local_order_id, order_shipments.c.order_id)
        above[orders] = max(connection.scalar(sa.select(sa.func.max(column))) or 0 for column in pointers)
    numbers = {marketplace_orders: len(fresh), orders: len(batch.new)}
    ids = writing.reserve_ids(connection, numbers, above)
    batch.row_ids = batch.quarantined | dict(zip(fresh, ids[marketplace_orders], strict=True))
    batch.local_ids = {sale.order_id: local_id for sale, local_id in zip(batch.new, ids[orders], strict=True)}


def _write_orders(
    connection: sa.Connection, batch: _Sorted, context: OrderContext, *, renewed: bool = False
) -> None:
    """Writes our rows and the shop's, of new orders or of those `renewed` that were quarantined, and ours of their lines and
    their log. Ours are sorted by id, so that two importers of the same orders do not deadlock."""
    sales = [sale for sale in batch.new if (sale.order_id in batch.quarantined) is renewed]
    local_ids = [batch.local_ids[sale.order_id] for sale in sales]
    by_id = sorted(sales, key=lambda sale: sale.order_id)
    ours = order_log.our_orders(by_id, batch.row_ids, batch.local_ids, context.vault)
    theirs = order_log.shop_orders(sales, local_ids)
    if renewed:  # replaces the record of the quarantine
        ours |= {name: [None] * len(sales) for name in ("reason", "exception")}
        writing.update_rows(connection, marketplace_orders, writing.by_row(ours))
    else:
        writing.insert_columns(connection, marketplace_orders, ours)
    writing.insert_columns(connection, orders, theirs)
    notes = [lines.origin(sale.order_id, sale.sales_channel) for sale in sales]
    history = {"order_id": local_ids, "status": theirs["status"], "notes": notes}
    writing.insert_columns(connection, order_status_history, history)
    sold = [line for line in batch.lines if (line.sale.order_id in batch.quarantined) is renewed]
    write_lines(connection, sold, [batch.row_ids[line.sale.order_id] for line in sold], shop=True)
    _write_log(connection, batch, context.first_steps(sales))


def _write_log(connection: sa.Connection, batch: _Sorted, log: writing.Columns) -> None:
    writing.insert_columns(connection, tables.order_processing_logs, log)
    for order_id, step in zip(log.get("marketplace_order_id", ()), log.get("step", ()), strict=True):
        if step in EXCEPTIONS:
            batch.exceptions[order_id].add(step)


def _allocate(connection: sa.Connection, batch: _Sorted, context: OrderContext, result: ImportCounts) -> None:
    """Locks the stock, allocates it to the order placed first, and writes the shop's lines, exceptions, log, alerts and mail."""
    sold, sales = batch.lines, batch.new
    local_ids = [batch.local_ids[line.sale.order_id] for line in sold]
    allocate_lines(connection, sold, local_ids)  # from now on the shop may wait for stock
    _write_log(connection, batch, context.line_steps(sold))
    marked = {order_id: lines.exception_text(found) for order_id, found in batch.exceptions.items()}
    marks = [{"id": batch.row_ids[order_id], "exception": text} for order_id, text in marked.items()]
    writing.update_rows(connection, marketplace_orders, marks)
    raise_oversold_alerts(connection, sold)
    for word, name in sorted({s.status_word: s.order_id for s in sales if not s.known_status}.items()):
        alert_unknown_word(connection, word, name)
    for order_id in batch.quarantined:
        end_quarantine(connection, order_id)
    if context.sends_mail:
        received = [(batch.row_ids[sale.order_id], sale) for sale in sales]
        queue_received(connection, received, context.settings)
    result.exceptions = len(marked)
    result.new = [sale.order_id for sale in sales]
    result.preview = [  # which Dagster and the sync log keep: no text of the buyer's
        {
            "order": sale.order_id,
            "channel": known_channel(sale.sales_channel) or "",
            "total": f"{sale.total} {known_currency(sale.currency) or ''}".rstrip(),
            "lines": str(len(sale.lines)),
            "exception": (marked.get(sale.order_id) or "").replace(",", ", "),
        }
        for sale in sales[:PREVIEW]
    ]
