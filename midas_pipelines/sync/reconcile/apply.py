"""Writing what a read-back means: observed columns, conflicts, pins, dirty marks; a thousand items a transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Product
from midas_pipelines.fourseller.pages import Listing
from midas_pipelines.notify.alerts import raise_alerts
from midas_pipelines.store.items.claims import COLUMNS, Mapping
from midas_pipelines.store.items.conflicts import (
    item_subject,
    record_conflicts,
    resolve_conflicts,
)
from midas_pipelines.store.items.mappings import CHANGED
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.refusals import write_each
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.clocks import hub_ahead
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.diff import Difference, form, hidden, shown_quantity, storable
from midas_pipelines.sync.listings.plan import Action, Planner
from midas_pipelines.sync.listings.scan import CHUNK, given_up
from midas_pipelines.sync.push_counts import PREVIEW
from midas_pipelines.sync.reconcile.decide import (
    CHANGING,
    DIFFERING,
    EQUAL,
    NO_ITEM,
    NOT_SEEN,
    Decision,
    FoundConflict,
    decide,
)

ALERT = "conflict"


@dataclass
class ReadBack:
    """One pass over all items with one listing; its counts grow with each chunk.

    Args:
        engine: settings, database and run.
        listing: what 4Seller showed.
        read_at: when the read began; what was confirmed later is left alone.
        sales_in: whether every sale from before the read is imported; otherwise no quantity counts as an edit.
        ids: only these mappings, in order; None for all.
        shards: only the items of these; None for all.
    """

    context: SyncContext
    listing: Listing
    read_at: datetime
    sales_in: bool = False
    ids: Sequence[int] | None = None
    shards: Shards | None = None
    scanned: int = 0
    equal: int = 0
    changing: int = 0
    not_seen: int = 0
    discrepancies: int = 0
    settled: int = 0
    unknown: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    worst: list[dict[str, str]] = field(default_factory=list)
    above: list[dict[str, str]] = field(default_factory=list)
    doubled: list[dict[str, str]] = field(default_factory=list)
    to_push: list[int] = field(default_factory=list)
    staying: list[Mapping] = field(default_factory=list)  # to be taken off, and there after a deletion
    need_sales: dict[int, Product] = field(default_factory=dict)
    """Items whose quantity a sale may explain, and what was read of them: not counted, and nothing of them written."""

    sale_requests: int = 0
    note: str | None = None  # why some of it was left as it is

    def __post_init__(self) -> None:
        self.shown = {product.id: product for product in self.listing.products}
        self.products_of = Counter(product.sku for product in self.listing.products if product.sku)
        self.ours: set[str] = set()
        self.busy: set[str] = set()  # subjects that could not be judged, for somebody was pushing them
        self._after = 0
        self._hub_ahead = hub_ahead(self.context.database)
        self._overdue = self.read_at - timedelta(minutes=2 * self.context.settings.products_interval)
        self._recent = self.read_at - timedelta(seconds=self.context.settings.read_back_grace_seconds)

    def next_chunk(self) -> bool:
        """Settles the next thousand items; False when there are none left."""
        with self.context.database.writing() as connection:
            rows = self._read_chunk(connection)
            if not rows:
                return False
            self._after = rows[-1].id
            judged = self._judge(connection, rows)
            self.need_sales |= {
                row.id: self.shown[row.fourseller_product_id or ""]
                for row, verdict in judged
                if verdict.needs_sales
            }
            verdicts = [(row, verdict) for row, verdict in judged if not verdict.needs_sales]
            for row, verdict in verdicts:
                self._count(row, verdict)
            self._write(connection, verdicts)
        return True

    def leave_open(self, items: int) -> None:
        """Counts items of `need_sales` that cannot be judged now."""
        self.scanned += items
        self.changing += items

    def leave_sales(self, why: str) -> None:
        """Leaves all of `need_sales` for the next read; its conflicts stay as they are."""
        self.note = why
        self.busy |= {item_subject(row) for row in self.need_sales}
        self.leave_open(len(self.need_sales))

    def resume(self, ids: Sequence[int]) -> None:
        """Settles those of `need_sales` that no sale explains, now that every sale from before the read is imported."""
        self.ids, self.sales_in, self._after = ids, True, 0
        while self.next_chunk():
            pass

    @property
    def orphans(self) -> list[Product]:
        """The products that are tied to none of the items judged so far."""
        return [product for key, product in self.shown.items() if key not in self.ours]

    def _read_chunk(self, connection: sa.Connection) -> list[Mapping]:
        query = sa.select(*COLUMNS).where(mappings.c.id > self._after)
        if self.ids is not None:  # a statement takes only so many parameters
            query = query.where(mappings.c.id.in_([one for one in self.ids if one > self._after][:CHUNK]))
        if self.shards is not None:
            query = query.where(self.shards.holds(mappings.c.id))
        return [Mapping(*row) for row in connection.execute(query.order_by(mappings.c.id).limit(CHUNK))]

    def _judge(self, connection: sa.Connection, rows: list[Mapping]) -> list[tuple[Mapping, Decision]]:
        self.ours |= {row.fourseller_product_id for row in rows if row.fourseller_product_id}
        free = self._free(connection, [row.id for row in rows])
        limit = self.context.settings.title_limit
        planner = Planner(connection, [row.key for row in rows], limit)
        verdicts = []
        self.busy |= {item_subject(row.id) for row in rows if row.id not in free}
        for stale in rows:
            row = free.get(stale.id, stale)
            verdict = decide(
                row,
                planner,
                self.shown.get(row.fourseller_product_id or ""),
                gone=self._gone(row),
                free=stale.id in free,
                recent=row.acked_at is not None and row.acked_at > self._recent,
                overdue=row.dirty_since is not None and row.dirty_since < self._overdue,
                sales_in=self.sales_in,
                hub_ahead=self._hub_ahead,
            )
            verdicts.append((row, verdict))
        return verdicts

    def _free(self, connection: sa.Connection, ids: list[int]) -> dict[int, Mapping]:
        """Locks the rows that nobody holds and that were not confirmed since, and reads them as they are now."""
        query = (
            sa.select(*COLUMNS)
            .where(
                mappings.c.id.in_(ids),
                sa.or_(mappings.c.acked_at.is_(None), mappings.c.acked_at < self.read_at),
                sa.or_(mappings.c.claimed_until.is_(None), mappings.c.claimed_until < utc_now()),
            )
            .order_by(mappings.c.id)
            .with_for_update(skip_locked=True)
        )
        return {row.id: Mapping(*row) for row in connection.execute(query)}

    def _count(self, row: Mapping, verdict: Decision) -> None:
        if verdict.outcome == NO_ITEM:
            if row.attempts and verdict.change.action is Action.DELETE and self._product(row) is not None:
                self.staying.append(row)
            return
        self.scanned += 1
        self.equal += verdict.outcome == EQUAL
        self.changing += verdict.outcome == CHANGING
        self.not_seen += verdict.outcome == NOT_SEEN
        sku = row.sku or ""
        if (many := self.products_of[sku]) > 1:
            self.doubled.append({"sku": sku, "expected": "1 product", "4Seller": f"{many} products"})
        if verdict.outcome == DIFFERING:
            self.discrepancies += 1
            for one in verdict.differences:
                self.differing[one.field] = self.differing.get(one.field, 0) + 1
                shown = shown_row(row, verdict, one)
                if self.differing[one.field] <= PREVIEW:  # so that no kind crowds out another
                    self.worst.append(shown)
                if one.field == "quantity" and one.seen and int(one.fourseller) > int(one.shop):
                    self.above.append(shown)

    def _write(self, connection: sa.Connection, verdicts: list[tuple[Mapping, Decision]]) -> None:
        observed = [
            self._observed(row) for row, _ in verdicts if self._product(row) is not None or self._gone(row)
        ]
        write_each(connection, observed, lambda part: connection.execute(_WRITE_OBSERVED, part))
        conflicts = [
            self._conflict_row(row, verdict, one) for row, verdict in verdicts for one in verdict.conflicts
        ]
        record_conflicts(connection, conflicts)
        self._alert(connection, [row for row in conflicts if row["policy"] == "manual"])
        for row, verdict in verdicts:
            values = dict(verdict.values)
            if verdict.push and not given_up(row):
                self.to_push.append(row.id)
                if not row.dirty:
                    values |= CHANGED
            if values:
                connection.execute(sa.update(mappings).where(mappings.c.id == row.id).values(values))
            self._settle_at_once(connection, row, verdict)

    def _settle_at_once(self, connection: sa.Connection, row: Mapping, verdict: Decision) -> None:
        for one in verdict.conflicts:
            if one.resolution is not None:
                which = sa.and_(
                    sync_conflicts.c.subject == item_subject(row.id),
                    sync_conflicts.c.field == one.difference.field,
                )
                self.settled += len(
                    resolve_conflicts(connection, which, resolution=one.resolution, by="policy")
                )

    def _product(self, row: Mapping) -> Product | None:
        return self.shown.get(row.fourseller_product_id or "")

    def _gone(self, row: Mapping) -> bool:
        """Whether 4Seller surely has no product of the item's: it was asked by id, or the item has none yet."""
        if row.fourseller_product_id is None:
            return self.listing.complete
        return row.fourseller_product_id in self.listing.gone

    def _observed(self, row: Mapping) -> dict[str, Any]:
        product = self._product(row)
        values: dict[str, Any] = {"row": row.id, "at": self.read_at}
        if product is None:
            return values | {"hash": None, "price": None, "quantity": None}
        return values | {
            "hash": row.observed_hash if hidden(product) else form(product),
            "price": storable(product.price),
            "quantity": shown_quantity(product),
        }

    def _conflict_row(self, row: Mapping, verdict: Decision, one: FoundConflict) -> dict[str, Any]:
        return {
            "subject": item_subject(row.id),
            "mapping_id": row.id,
            "sku": verdict.change.sku or row.sku,
            "fourseller_product_id": row.fourseller_product_id,
            "field": one.difference.field,
            "shop_value": one.difference.shop,
            "fourseller_value": one.difference.fourseller,
            "policy": one.policy,
            "delta": one.delta,
            "run_id": self.context.run_id,
        }

    def _alert(self, connection: sa.Connection, waiting: list[dict[str, Any]]) -> None:
        texts = {
            f"{row['subject']}:{row['field']}": (
                f"{row['sku']}: the {row['field']} is {row['fourseller_value']} on 4Seller and "
                f"{row['shop_value']} in the shop. Settle it with `midas conflicts list`."
            )
            for row in waiting
        }
        raise_alerts(connection, kind=ALERT, texts=texts)


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
    )
)


def shown_row(row: Mapping, verdict: Decision, one: Difference) -> dict[str, str]:
    """One difference for a table, with what becomes of it."""
    return {
        "sku": verdict.change.sku or row.sku or "",
        "field": one.field,
        "shop": one.shop,
        "4Seller": one.fourseller,
        "hint": _hint(verdict, one),
    }


def _hint(verdict: Decision, one: Difference) -> str:
    policies = {found.policy for found in verdict.conflicts if found.difference.field == one.field}
    if "manual" in policies:
        return "Waits for a person: `midas conflicts list`."
    if "marketplace_wins" in policies:
        return "4Seller's word is taken, by policy."
    if "source_wins" in policies:
        return "Somebody changed it on 4Seller: the shop's word is pushed again, by policy."
    return "A push is overdue: it is sent now. See `midas status` when it stays."
