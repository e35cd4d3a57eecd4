"""An order within a transaction: reading it, writing it, its log, and its locks.

Locks are taken in the same order always, to avoid deadlocks: the shop's order, our row, then stock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import payment_status
from midas_pipelines.settings import Settings
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.store.privacy.keys import KeyRing
from midas_pipelines.store.schema import tables
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.orders import order_state, set_order_status
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.types import to_cents, utc_now
from midas_pipelines.storefront.writing import Columns, by_column, lock
from midas_pipelines.sync.orders.model import lines
from midas_pipelines.sync.orders.model.lines import CHANNEL, SoldLine, sale_exceptions, shop_origin
from midas_pipelines.sync.orders.model.sale import Content, Sale, read_content, write_content
from midas_pipelines.text import spell_moment

UNANSWERED = "unanswered"
"""The step of a push to 4Seller that got no answer: it may still arrive, after a newer one."""
_ORDERS, _LOGS = marketplace_orders.c, tables.order_processing_logs.c


@dataclass(frozen=True)
class OrderContext:
    """Context for writing to an order."""

    run_id: str | None = None  # the run that writes; None for an event
    vault: Vault = field(default_factory=lambda: Vault(KeyRing(list)))  # seals payloads; none without a key
    settings: Settings | None = None  # of customer mail and the cut-off; None has neither

    @property
    def sends_mail(self) -> bool:
        """Whether customers get mail at all."""
        return self.settings is not None and self.settings.smtp_url is not None

    def first_steps(self, sales: Sequence[Sale]) -> Columns:
        """The order log of imported orders: what was imported, and what of it needs a person."""
        steps: list[tuple[str, str, str]] = []
        for sale in sales:
            name = sale.order_id
            placed = f"{spell_moment(sale.placed_at)[:16]} UTC" if sale.placed_at else "an unknown date"
            imported = (
                f"{sale.sales_channel or 'Marketplace'} order of {placed}, {sale.status_word or 'no status'}, "
                f"{len(sale.lines)} lines, {sale.priced}, as {sale.order_number}."
            )
            steps.append((name, "imported", imported))
            if sale.unreadable:
                steps.append((name, "unreadable", sale.unread))
            steps += [(name, wrong.value, words) for wrong, words in sale_exceptions(sale).items()]
        return self._columns(steps)

    def line_steps(self, lines: Sequence[SoldLine]) -> Columns:
        """The order log of the lines of imported orders: what was allocated, and what needs a person."""
        steps: list[tuple[str, str, str]] = []
        for name, mine in groupby(lines, lambda line: line.sale.order_id):
            taken, others = list[str](), list[tuple[str, str, str]]()
            for line in mine:
                if line.allocated:
                    taken.append(
                        f"{line.allocated} of {line.line.sku or line.line.title} (line {line.number})"
                    )
                if line.respelled and line.item is not None:
                    other = f"another spelling of the SKU of product {line.item[0]}"
                    others.append((name, "mapped", f"Line {line.number}: {line.line.sku} is {other}."))
                others += [(name, wrong.value, words) for wrong, words in line.exceptions.items()]
            if taken:
                steps.append((name, "deducted", f"Took {', '.join(taken)} from stock."))
            steps += others
        return self._columns(steps)

    def _columns(self, steps: list[tuple[str, str, str]]) -> Columns:
        names = ("marketplace_order_id", "step", "detail")
        columns = dict(zip(names, zip(*steps, strict=True), strict=True)) if steps else {}
        return {**columns, "channel": [CHANNEL] * len(steps), "run_id": [self.run_id] * len(steps)}

    def log(self, connection: sa.Connection, name: str, step: str, detail: str, once: bool = False) -> bool:
        """Adds one step to the log of the order of that id, with `once` unless it has the same text; True when it did."""
        known = sa.exists().where(_LOGS.marketplace_order_id == name, _LOGS.detail == detail)
        if once and connection.scalar(sa.select(known)):
            return False
        row = {"channel": CHANNEL, "marketplace_order_id": name, "step": step, "detail": detail}
        connection.execute(sa.insert(tables.order_processing_logs).values(row | {"run_id": self.run_id}))
        return True


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """One order within a transaction, which holds its rows where it writes: the columns of our row, as read, are attributes."""

    connection: sa.Connection
    row: sa.Row[Any]
    context: OrderContext = OrderContext()

    def __getattr__(self, column: str) -> Any:
        """A column of our row."""
        return getattr(self.row, column)

    @property
    def subject(self) -> str:
        """What its alerts are about."""
        return f"order:{self.marketplace_order_id}"[:200]

    @property
    def content(self) -> Content:
        """The digests of what it holds."""
        return read_content(self.content_hash)

    def again(self) -> StoredOrder:
        """The order with our row as it is now."""
        query = sa.select(marketplace_orders).where(_ORDERS.id == self.id)
        return replace(self, row=self.connection.execute(query).one())

    def set(self, **values: Any) -> None:
        """Writes columns of our row."""
        self.connection.execute(sa.update(marketplace_orders).where(_ORDERS.id == self.id).values(values))

    def log(self, step: str, detail: str, once: bool = False) -> bool:
        """Adds one step to the order log, with `once` unless it has the same text; True when it did."""
        return self.context.log(self.connection, self.marketplace_order_id, step, detail, once)

    def has_step(self, step: str) -> bool:
        """Whether the order log has such a step."""
        mine = sa.and_(_LOGS.marketplace_order_id == self.marketplace_order_id, _LOGS.step == step)
        return bool(self.connection.scalar(sa.select(sa.exists().where(mine))))

    def has(self, exception: str) -> bool:
        """Whether our row, as read, has the exception."""
        return exception in lines.read_exceptions(self.exception)

    def set_exceptions(self, *, add: Collection[str] = (), drop: Collection[str] = ()) -> None:
        """Adds and removes exceptions of our row, as it is now."""
        current = lines.read_exceptions(self.again().exception)
        if (wanted := current.union(add).difference(drop)) != current:
            self.set(exception=lines.exception_text(wanted))

    def match_exceptions(self, *more: lines.OrderException) -> None:
        """Gives the order the exceptions of its lines: `unmapped`, `oversold` and, where it was not dismissed, `more`."""
        kinds = {lines.OrderException.UNMAPPED, lines.OrderException.OVERSOLD, *more}
        found = set[str]().union(*(lines.read_exceptions(line.exception) for line in self.lines()))
        self.set_exceptions(add=kinds & found, drop=kinds - found)

    def lines(self) -> Sequence[sa.Row[Any]]:
        """Our rows of its lines, by number."""
        lines = marketplace_order_lines.c
        query = sa.select(marketplace_order_lines).where(lines.order_id == self.id)
        return self.connection.execute(query.order_by(lines.line)).all()

    def line(self, number: int) -> sa.Row[Any] | None:
        """Our row of the line of that number; None without one."""
        return next((line for line in self.lines() if line.line == number), None)

    def shop_status(self) -> str | None:
        """The status of the shop's order; None when the shop has deleted it."""
        return order_state(self.connection, self.local_order_id)[0]

    def move(self, status: str, notes: str, payment: str | None = None) -> None:
        """Sets the status of the shop's order, and its payment status if given, with notes for its history; the trigger on it
        marks ours to be pushed."""
        set_order_status(
            self.connection, self.local_order_id, status=status, notes=notes, payment_status=payment
        )

    def mark_for_push(self, since: datetime | utc_now | None) -> None:
        """Has the status of the shop's order pushed, as of `since`; None when there is nothing to push."""
        self.set(shop_status_since=since, push_after=None, push_attempts=0)


_OF_SALE = (
    *("sales_channel", "status_word", "currency", "placed_at"),
    *("total", "lines_total", "shipping_cost", "tax", "discount"),
)
"""The columns of our row that a sale calls the same."""


def our_orders(
    sales: Sequence[Sale], row_ids: Mapping[str, int], local_ids: Mapping[str, int], vault: Vault
) -> dict[str, list[Any]]:
    """Our rows of new orders, given the ids of ours and of the shop's, by the marketplace's."""
    return {name: [getattr(sale, name) for sale in sales] for name in _OF_SALE} | {
        "id": [row_ids[sale.order_id] for sale in sales],
        "channel": [CHANNEL] * len(sales),
        "marketplace_order_id": [sale.order_id for sale in sales],
        "local_order_id": [local_ids[sale.order_id] for sale in sales],
        "status": [sale.status.value for sale in sales],
        "outcome": ["imported"] * len(sales),
        "payload": [sale.sealed or vault.seal(sale.raw) for sale in sales],
        "content_hash": [write_content(sale.content) for sale in sales],
        "source_updated_at": [sale.updated_at for sale in sales],
    }


def shop_orders(sales: Sequence[Sale], local_ids: Sequence[int]) -> Columns:
    """The shop's rows of new orders; their amounts are in whole cents."""
    addresses = [sale.address for sale in sales]
    paid = [sale.paid and sale.total >= 0 and bool(sale.lines) for sale in sales]
    return {
        "id": local_ids,
        "order_number": [sale.order_number for sale in sales],
        "status": [sale.shop_status for sale in sales],
        "total_amount": [to_cents(sale.total) for sale in sales],
        "shipping_address": addresses,
        "billing_address": addresses,
        "payment_status": [payment_status(one.status, paid=p) for one, p in zip(sales, paid, strict=True)],
        "shipping_cost": [to_cents(sale.shipping_cost) for sale in sales],
        **by_column([shop_origin(sale.order_id, sale.sales_channel, sale.currency) for sale in sales]),
        "created_at": [sale.ordered_at for sale in sales],
        "updated_at": [sale.updated_at or sale.ordered_at for sale in sales],
    }


def lock_order(connection: sa.Connection, order_row: int, context: OrderContext | None = None) -> StoredOrder:
    """Locks an order's row, ours and the shop's, until the transaction ends; a context of None has no run."""
    return lock_rows(connection, [order_row], context)[0]


def lock_rows(
    connection: sa.Connection, order_rows: Collection[int], context: OrderContext | None
) -> list[StoredOrder]:
    """Locks the rows of these orders, ours and the shop's, until the transaction ends; returns the orders by id. Lock stock
    only afterwards, with `storefront.catalog.lock_stock`. Raises RowsBusy."""
    if not order_rows:
        return []
    wanted = sorted(order_rows)
    mine = (_ORDERS.id.in_(wanted), _ORDERS.local_order_id.is_not(None))
    local = connection.scalars(sa.select(_ORDERS.local_order_id).where(*mine)).all()
    lock(connection, sa.select(orders.c.id), orders.c.id, local)
    rows = lock(connection, sa.select(marketplace_orders), _ORDERS.id, wanted)
    return [StoredOrder(connection, row, context or OrderContext()) for row in rows]
