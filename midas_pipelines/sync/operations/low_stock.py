"""Low stock: which items run out, told once per crossing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.alerts import clear_alerts, open_subjects, raise_alerts
from midas_pipelines.settings import Settings
from midas_pipelines.store.schema.tables import ITEM_KEY, mappings
from midas_pipelines.store.stock.rules import NO_RULE, Rule, read_rules
from midas_pipelines.store.stock.sales_velocity import RATE_DAYS, units_sold
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import has_product_status, product_variants, products
from midas_pipelines.sync.context import SyncContext

ALERT = "low_stock"
CHUNK = 1000
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Level:
    """One item's stock, how fast it goes, and what counts as low for it."""

    key: ItemKey
    sku: str
    on_hand: int
    per_day: float
    threshold: int
    cover_days: int

    @property
    def days_left(self) -> float | None:
        """How long the stock lasts at the rate of the last four weeks; None where nothing was sold."""
        return round(max(0, self.on_hand) / self.per_day, 1) if self.per_day else None

    @property
    def low(self) -> bool:
        """At or below the threshold, or lasting fewer days than it should."""
        short = self.cover_days and self.days_left is not None and self.days_left < self.cover_days
        return self.on_hand <= self.threshold or bool(short)

    @property
    def recovered(self) -> bool:
        """Well above both, by a fifth and at least a unit: what hovers at the threshold is told once, not each time."""
        enough = self.on_hand > self.threshold + max(1, self.threshold // 5)
        lasts = not self.cover_days or self.days_left is None or self.days_left >= 1.2 * self.cover_days
        return enough and lasts

    @property
    def subject(self) -> str:
        """The alert's subject."""
        return f"item:{self.key[0]}:{self.key[1] or 0}"

    @property
    def text(self) -> str:
        """The alert's words."""
        lasts = f", enough for {self.days_left:g} days" if self.days_left is not None else ""
        return f"{self.sku} has {self.on_hand} left{lasts} (low at {self.threshold}): order more."


@dataclass
class LowStockReport:
    """What the look at all stock found; counts of items. `low` is sorted by how soon each runs out."""

    scanned: int = 0
    low_items: int = 0
    out_of_stock: int = 0
    raised: int = 0
    cleared: int = 0
    low: list[dict[str, Any]] = field(default_factory=list)


def check_low_stock(context: SyncContext) -> LowStockReport:
    """Looks at every active item, raises an alert for each that has become low, clears those that have recovered."""
    report = LowStockReport()
    low: list[Level] = []
    fresh: list[Level] = []
    over: list[str] = []
    with context.database.reading() as connection:
        told = open_subjects(connection, ALERT)
    for levels in _levels(context):
        found = [level for level in levels if level.low]
        low = sorted(low + found, key=_urgency)[:SHOWN]
        report.scanned += len(levels)
        report.low_items += len(found)
        report.out_of_stock += sum(1 for level in levels if level.on_hand <= 0)
        fresh += [level for level in found if level.subject not in told]
        over += [level.subject for level in levels if level.subject in told and level.recovered]
    if fresh or over:
        texts = {level.subject: level.text for level in sorted(fresh, key=_urgency)}
        with context.database.writing() as connection:
            report.raised = raise_alerts(connection, kind=ALERT, texts=texts)
            report.cleared = clear_alerts(connection, kind=ALERT, subjects=over)
    report.low = [_row(level) for level in low]
    return report


def threshold_of(rule: Rule, settings: Settings) -> tuple[int, int]:
    """Units and days of cover that count as low: the rules', or the settings' where no rule has them."""
    units = settings.low_stock if rule.low_stock is None else rule.low_stock
    return units, settings.cover_days if rule.cover_days is None else rule.cover_days


def _urgency(level: Level) -> tuple[float, int]:
    return (level.days_left if level.days_left is not None else float(10**9), level.on_hand)


def _row(level: Level) -> dict[str, Any]:
    names = asdict(level)
    return {name: names[name] for name in ("sku", "on_hand", "threshold")} | {
        "sold_per_day": round(level.per_day, 2),
        "days_left": level.days_left,
    }


def _levels(context: SyncContext) -> Iterator[list[Level]]:
    after = 0
    while True:
        with context.database.reading() as connection:
            rows = connection.execute(_stock(connection, after)).all()
            if not rows:
                return
            after = rows[-1].id
            items = {(row.product_id, row.variant_id): row.category_id for row in rows}
            rules = read_rules(connection, items)
            sold = units_sold(connection, {product for product, _ in items})
        yield [
            _level(row, rules.get((row.product_id, row.variant_id), NO_RULE), sold, context.settings)
            for row in rows
            if row.status == "active"
        ]


def _level(row: sa.Row[Any], rule: Rule, sold: dict[ItemKey, int], settings: Settings) -> Level:
    key = (row.product_id, row.variant_id)
    units, days = threshold_of(rule, settings)
    return Level(key, row.sku or f"item {key}", row.on_hand, sold.get(key, 0) / RATE_DAYS, units, days)


def _stock(connection: sa.Connection, after: int) -> sa.Select[Any]:
    """A thousand sellable items with their stock, in the order of their mappings."""
    variant, product = product_variants.c, products.c
    by_variant = sa.exists().where(variant.product_id == product.id)
    return (
        sa.select(
            mappings.c.id,
            mappings.c.product_id,
            mappings.c.variant_id,
            sa.func.coalesce(variant.sku, product.sku).label("sku"),
            sa.func.coalesce(variant.stock_quantity, product.stock_quantity).label("on_hand"),
            product.category_id,
            (product.status if has_product_status(connection) else sa.literal("active")).label("status"),
        )
        .select_from(
            mappings.join(products, product.id == mappings.c.product_id).outerjoin(
                product_variants, variant.id == mappings.c.variant_id
            )
        )
        .where(mappings.c.id > after)
        .where(sa.or_(variant.id.is_not(None), sa.and_(ITEM_KEY == 0, ~by_variant.correlate(products))))
        .order_by(mappings.c.id)
        .limit(CHUNK)
    )
