"""Taking orders in, however they came: read into sales, those that cannot be read kept apart, both written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from midas_pipelines.fourseller.models import Order
from midas_pipelines.fourseller.pages import Rejected
from midas_pipelines.store.payloads import Vault
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders import set_aside
from midas_pipelines.sync.orders.amounts import UnreadableSaleError
from midas_pipelines.sync.orders.beginning import too_old
from midas_pipelines.sync.orders.imported import Imported, left_aside
from midas_pipelines.sync.orders.importing import import_sales
from midas_pipelines.sync.orders.mail_rules import mail_rules
from midas_pipelines.sync.orders.sales import Sale, read_sale, read_status_alone


def take_in(
    engine: Engine,
    orders: Sequence[Order],
    rejected: Sequence[Rejected] = (),
    *,
    vault: Vault | None = None,
    read_at: datetime | None = None,
) -> Imported:
    """Imports orders however they came, by polling or as an event, in one transaction; a bad one is set aside.

    Args:
        engine: the shop's database and settings.
        orders: as the client read them.
        rejected: those it could not read.
        vault: seals the payloads; made from the settings when it is not given.
        read_at: before 4Seller was asked for them, by the database's clock; None for events.
    """
    vault = vault or Vault(engine.settings.payload_key)
    return import_batch(engine, read_batch(engine, orders, rejected, vault, read_at), vault)


@dataclass(frozen=True)
class Unreadable:
    """An order that cannot be imported as it came: why, and where it stands if that can be read."""

    order_id: str
    raw: Any
    reason: str
    standing: Sale | None = None


@dataclass
class Batch:
    """Orders on their way into the shop: those that can be imported, and those that cannot."""

    sales: list[Sale] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)

    def add(self, other: Batch) -> None:
        """Takes in another."""
        self.sales += other.sales
        self.unreadable += other.unreadable

    def leave(self, one: Unreadable, *, old: bool) -> None:
        """Takes in one that cannot be read; of an old one only where it stands, should it be on record."""
        if not old:
            self.unreadable.append(one)
        elif one.standing is not None:
            self.sales.append(one.standing)


def read_batch(
    engine: Engine,
    orders: Sequence[Order],
    rejected: Sequence[Rejected],
    vault: Vault,
    read_at: datetime | None = None,
) -> Batch:
    """The orders as sales, sealed; nothing is written, so that it can be done while an earlier batch is imported."""
    batch = Batch()
    for order in orders:
        old = too_old(
            order.created_at, engine.settings.orders_since
        )  # hardly ever written, so not sealed yet
        try:
            batch.sales.append(read_sale(order, None if old else vault, read_at))
        except UnreadableSaleError as why:
            batch.leave(_unreadable(order, str(why), read_at), old=old)
        except (ArithmeticError, ValueError) as odd:  # of which nobody has thought: it stops no other order
            why_not = f"It cannot be read: {type(odd).__name__}."
            batch.leave(_unreadable(order, why_not, read_at), old=old)
    batch.unreadable += [rejected_order(row, read_at) for row in rejected]
    return batch


def _unreadable(order: Order, reason: str, read_at: datetime | None) -> Unreadable:
    try:
        standing = read_status_alone(order, reason, read_at)
    except (UnreadableSaleError, ValidationError):
        standing = None
    return Unreadable(order.id, order.raw, reason, standing)


def rejected_order(row: Rejected, read_at: datetime | None = None) -> Unreadable:
    """An order that breaks the contract: kept under its id, or under a digest of it where it has none."""
    if not row.id:
        return Unreadable(f"unreadable-{_digest(row.raw)}", row.raw, row.reason)
    order = _what_can_be_read(row)
    standing = _unreadable(order, row.reason, read_at).standing if order is not None else None
    return Unreadable(row.id, row.raw, row.reason, standing)


def _what_can_be_read(row: Rejected) -> Order | None:
    """The order with its status and its date, as far as they are sound."""
    known: dict[str, Any] = {"id": row.id}
    for name in ("status", "updated_at"):
        told = known | {name: row.raw.get(name)}
        with suppress(ValidationError):
            Order.model_validate(told)
            known = told
    try:
        return Order.model_validate(known)
    except ValidationError:  # its id is none
        return None


def import_batch(
    engine: Engine, batch: Batch, vault: Vault, *, on_sent: Callable[[], None] = lambda: None
) -> Imported:
    """Imports the sales in one transaction, and keeps what could not be read, each with its reason.

    Of an unreadable order that is known already the status is followed all the same. `on_sent` is called when the
    database has got everything and is still at work on it.
    """
    result = Imported()
    sales = list(batch.sales)
    for one in batch.unreadable:
        kept = set_aside.keep(engine.database, one.order_id, one.raw, one.reason, vault, engine.run_id)
        if kept is not None:
            result.add(left_aside(one.order_id, one.reason, new=kept == "new"))
        elif one.standing is not None:
            sales.append(one.standing)
    if sales:
        mail, since = mail_rules(engine.settings), engine.settings.orders_since
        run = engine.run_id
        result.add(import_sales(engine.database, sales, vault, run, mail=mail, since=since, on_sent=on_sent))
    return result


def _digest(raw: object) -> str:
    return hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest()[:16]
