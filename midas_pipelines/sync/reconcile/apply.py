"""One read-back: judges every item, has it counted, and writes observed columns, conflicts, pins and dirty marks.

A thousand items are judged and written in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.listed import Listing
from midas_pipelines.fourseller.models import Product
from midas_pipelines.notify.alerts import hub_ahead
from midas_pipelines.store.items.conflicts import (
    item_subject,
    record_conflicts,
    renew_conflicts,
    resolve_conflicts,
)
from midas_pipelines.store.items.mappings import CHANGED, CHUNK, COLUMNS, UNCLAIMED, Mapping
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.writing import any_of, write_each
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.diff import form, hidden, shown_quantity, storable
from midas_pipelines.sync.listings.plan import Action, Planner
from midas_pipelines.sync.listings.scan import Scanned, given_up, waits
from midas_pipelines.sync.reconcile.conflicts import match_conflict_alerts
from midas_pipelines.sync.reconcile.decide import (
    NO_ITEM,
    Decision,
    FoundConflict,
    decide,
    is_on_its_way,
    judged_key,
    may_be_kept,
)
from midas_pipelines.sync.reconcile.report import ReconcileReport

HOLD_SECONDS, SMALLEST_CHUNK = 0.3, 50
"""How long one chunk may hold its items, which the shop's own writes wait for; on a busy machine a chunk is smaller."""

_WRITE_OBSERVED = (
    sa.update(mappings)
    .where(
        mappings.c.id == sa.bindparam("row"),
        sa.func.coalesce(mappings.c.acked_at < sa.bindparam("at"), sa.true()),  # else it shows a newer form
    )
    .values(
        observed_hash=sa.bindparam("hash"),
        observed_price=sa.bindparam("price"),
        observed_quantity=sa.bindparam("quantity"),
        observed_at=sa.bindparam("at"),
        judged_key=sa.bindparam("key"),
    )
)


@dataclass
class ReadBack:
    """One pass over all items with one listing; its counts grow with each chunk."""

    context: SyncContext
    listing: Listing
    read_at: datetime  # when the read began; what was confirmed later is left alone
    sales_in: bool = False  # every sale from before the read is imported; else no quantity counts as an edit
    ids: Sequence[int] | None = None  # only these mappings, in order; None for all
    shards: Shards | None = None  # only the items of these; None for all
    report: ReconcileReport = field(default_factory=ReconcileReport)
    to_push: list[int] = field(default_factory=list)
    staying: list[Mapping] = field(default_factory=list)  # to be taken off, and there after a deletion
    need_sales: dict[int, Product] = field(default_factory=dict)
    """Items whose quantity a sale may explain, and what was read of them: not counted, and nothing of them written."""
    scanned: Scanned = field(default_factory=Scanned)
    unscanned: list[int] = field(default_factory=list)
    """Items that are to be compared with the shop again: they are not counted in `scanned`, or changed with this pass."""

    def __post_init__(self) -> None:
        self._shown: dict[str, Product] = {}  # of the items that are compared in full, of this chunk
        self._stamps: dict[str, bytes] = {}
        self._shared = self.listing.products.shared_skus()
        self.busy: set[str] = set()  # subjects not judged: somebody was pushing them, or they were not seen
        self._after, self._most, self._asks_a_person = 0, CHUNK // 4, False
        self._hub_ahead = hub_ahead(self.context.database)
        self._recent = self.read_at - timedelta(seconds=self.context.settings.read_back_grace_seconds)

    def judge_all(self) -> None:
        """Judges every item against the listing and writes what that asks for; leaves `need_sales` to `judge_sold`."""
        while self._judge_chunk():
            pass
        if self._asks_a_person:
            self.context.database.write(match_conflict_alerts, looked=True)

    def _judge_chunk(self) -> bool:
        """Judges the next items, a thousand at most; False when there are none left."""
        began = time.monotonic()
        with self.context.database.writing() as connection:
            ids = self._next_ids(connection)
            if not ids:
                return False
            self._after = ids[-1]
            free, rows = self._read_rows(connection, ids)
            planner = Planner(connection, [row.key for row in rows], self.context.settings.title_limit)
            decisions = []
            for row in self._compare(connection, rows, free, planner):
                decision = self._decide(row, row.id in free, planner)
                product = self._product(row)
                if self.listing.complete and product is None and not self._gone(row):
                    self.busy.add(item_subject(row.id))
                if self.ids is None:
                    self._scan(row, decision, row.id in free)
                if decision.needs_sales:
                    self.need_sales[row.id] = self._shown[row.fourseller_product_id or ""]
                    continue
                decisions.append((row, decision))
                if decision.outcome != NO_ITEM:
                    shown = int(product is not None)
                    self.report.count(row, decision, self._shared.get(row.sku or "", shown))
                elif row.attempts and decision.change.action is Action.DELETE and product is not None:
                    self.staying.append(row)
            self._write(connection, decisions, free, planner)
        held = time.monotonic() - began
        self._most = min(CHUNK, max(SMALLEST_CHUNK, int(len(ids) * HOLD_SECONDS / held)))
        return True

    def _scan(self, row: Mapping, decision: Decision, free: bool) -> None:
        """Counts the item with what it needs, where that will be the same after this pass."""
        as_it_was = free and not (decision.values or decision.conflicts or row.pinned_fields)
        marked = row.dirty or (decision.push and not given_up(row)) or not waits(decision.change)
        if as_it_was and marked and not decision.needs_sales:
            self.scanned.count(decision.change)
        else:
            self.unscanned.append(row.id)

    def leave_sales(self, why: str) -> None:
        """Leaves all of `need_sales` for the next read."""
        self.report.note = why
        self.leave(self.need_sales)

    def leave(self, ids: Collection[int]) -> None:
        """Leaves these of `need_sales` for the next read; their conflicts stay as they are."""
        self.busy |= {item_subject(row) for row in ids}
        self.report.leave_open(len(ids))

    def resume(self, ids: Sequence[int]) -> None:
        """Judges those of `need_sales` that no sale explains, now that every sale from before the read is imported."""
        self.ids, self.sales_in, self._after = ids, True, 0
        self.judge_all()

    def _next_ids(self, connection: sa.Connection) -> list[int]:
        query = sa.select(mappings.c.id).where(mappings.c.id > self._after)
        if self.ids is not None:  # a statement takes only so many parameters
            ids = [one for one in self.ids if one > self._after]
            query = query.where(mappings.c.id.in_(ids[: self._most]))
        if self.shards is not None:
            query = query.where(self.shards.holds(mappings.c.id))
        return list(connection.scalars(query.order_by(mappings.c.id).limit(self._most)))

    def _read_rows(
        self, connection: sa.Connection, ids: list[int]
    ) -> tuple[dict[int, Mapping], list[Mapping]]:
        """The rows that are ours to write: free of claims and not confirmed since, locked; and all of them."""
        columns = mappings.c
        query = sa.select(*COLUMNS).order_by(columns.id)
        idle = query.where(
            any_of(connection, columns.id, ids),
            sa.or_(columns.acked_at.is_(None), columns.acked_at < self.read_at),
            UNCLAIMED,
        )
        free = {row.id: Mapping(*row) for row in connection.execute(idle.with_for_update(skip_locked=True))}
        busy = [one for one in ids if one not in free]
        self.busy |= {item_subject(one) for one in busy}
        held = connection.execute(query.where(any_of(connection, columns.id, busy))) if busy else ()
        known = free | {row.id: Mapping(*row) for row in held}
        return free, [known[one] for one in ids if one in known]

    def _compare(
        self, connection: sa.Connection, rows: list[Mapping], free: dict[int, Mapping], planner: Planner
    ) -> list[Mapping]:
        """Counts and dates the rows that are equal as they were last time; returns those to be compared in full."""
        ids = {row.fourseller_product_id: row.id for row in rows if row.fourseller_product_id}
        self.listing.products.tie(ids)
        self._stamps = self.listing.products.stamps(ids)
        same = {
            row.id
            for row in rows
            if row.judged_key is not None
            and row.id in free
            and row.sku not in self._shared
            and row.judged_key == judged_key(row, planner, self._stamps.get(row.fourseller_product_id or ""))
        }
        self.report.count_equal(len(same))
        self.scanned.items += len(same)
        if same:
            dated = sa.update(mappings).where(any_of(connection, mappings.c.id, same))
            connection.execute(dated.values(observed_at=self.read_at))
        left = [row for row in rows if row.id not in same]
        wanted = [row.fourseller_product_id for row in left if row.fourseller_product_id]
        self._shown = self.listing.products.products(wanted)
        return left

    def _decide(self, row: Mapping, free: bool, planner: Planner) -> Decision:
        return decide(
            row,
            planner,
            self._product(row),
            gone=self._gone(row),
            free=free,
            recent=row.acked_at is not None and row.acked_at > self._recent,
            on_its_way=is_on_its_way(row, self.read_at, self.context.settings.products_interval),
            sales_in=self.sales_in,
            hub_ahead=self._hub_ahead,
        )

    def _write(
        self,
        connection: sa.Connection,
        decisions: list[tuple[Mapping, Decision]],
        free: dict[int, Mapping],
        planner: Planner,
    ) -> None:
        observed = [
            self._observed(row, planner if row.id in free and may_be_kept(decision) else None)
            for row, decision in decisions
            if self._product(row) is not None or self._gone(row)
        ]
        write_each(connection, observed, lambda part: connection.execute(_WRITE_OBSERVED, part))
        conflicts = [self._row(row, found, one) for row, found in decisions for one in found.conflicts]
        record_conflicts(connection, conflicts)
        for name, subjects in _differing(decisions, free).items():
            renew_conflicts(connection, name, subjects)
        self._asks_a_person |= any(row["policy"] == "manual" for row in conflicts)
        for row, decision in decisions:
            values = dict(decision.values)
            if decision.push and not given_up(row):
                self.to_push.append(row.id)
                if not row.dirty:
                    values |= CHANGED
            if values:
                connection.execute(sa.update(mappings).where(mappings.c.id == row.id).values(values))
            for one in decision.conflicts:
                if one.resolution is not None:
                    field = sync_conflicts.c.field == one.difference.field
                    which = sa.and_(sync_conflicts.c.subject == item_subject(row.id), field)
                    closed = resolve_conflicts(connection, which, resolution=one.resolution, by="policy")
                    self.report.resolved += closed

    def _product(self, row: Mapping) -> Product | None:
        return self._shown.get(row.fourseller_product_id or "")

    def _gone(self, row: Mapping) -> bool:
        """Whether 4Seller surely has no product of the item's: it was asked by id, or the item has none yet."""
        if row.fourseller_product_id is None:
            return self.listing.complete
        return row.fourseller_product_id in self.listing.gone

    def _observed(self, row: Mapping, planner: Planner | None) -> dict[str, Any]:
        """What was read of the item; with a planner, also by what it is known to be equal the next time."""
        product = self._product(row)
        values: dict[str, Any] = {"row": row.id, "at": self.read_at, "key": None}
        if product is None:
            return values | {"hash": None, "price": None, "quantity": None}
        shown = row.observed_hash if hidden(product) else form(product)
        if planner is not None:
            stamp = self._stamps.get(product.id)
            values["key"] = judged_key(replace(row, observed_hash=shown), planner, stamp)
        return values | {"hash": shown, "price": storable(product.price), "quantity": shown_quantity(product)}

    def _row(self, row: Mapping, decision: Decision, one: FoundConflict) -> dict[str, Any]:
        return {
            "subject": item_subject(row.id),
            "mapping_id": row.id,
            "sku": decision.change.sku or row.sku,
            "fourseller_product_id": row.fourseller_product_id,
            "field": one.difference.field,
            "shop_value": one.difference.shop,
            "fourseller_value": one.difference.fourseller,
            "policy": one.policy,
            "delta": one.delta,
            "run_id": self.context.run_id,
        }


def _differing(decisions: list[tuple[Mapping, Decision]], free: Collection[int]) -> dict[str, list[str]]:
    """The subjects by each field in which they differ, whether that counts as an edit in this read or not."""
    found: dict[str, list[str]] = {}
    for row, decision in decisions:
        if row.fourseller_product_id is None or row.id not in free:  # the others are busy
            continue
        fields = {one.field for one in decision.differences}
        for name in fields | {"quantity"} if decision.excused else fields:
            found.setdefault(name, []).append(item_subject(row.id))
    return found
