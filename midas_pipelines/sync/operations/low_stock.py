"""Low stock: which items run out, with one alert per crossing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.alerts import clear_alerts, open_subjects, raise_alerts
from midas_pipelines.settings import Settings
from midas_pipelines.store.stock.rules import NO_RULE, Rule, read_rules
from midas_pipelines.store.stock.sales_velocity import RATE_DAYS, soonest_out, units_sold
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.operations.catalog import MOST_SHOWN, active_items

ALERT = "low_stock"


@dataclass(frozen=True, slots=True)
class Level:
    """One item's stock, its rate of sale, and what counts as low for it."""

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
        """Well above both, by a fifth and at least a unit, so that stock around the threshold raises one alert only."""
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

    @property
    def urgency(self) -> tuple[float, int]:
        """What runs out first sorts first."""
        return (self.days_left if self.days_left is not None else float(10**9), self.on_hand)


@dataclass
class LowStockReport:
    """All stock at a glance; counts of items. `low` is sorted by how soon each runs out."""

    scanned: int = 0
    low_items: int = 0
    out_of_stock: int = 0
    raised: int = 0
    cleared: int = 0
    low: list[dict[str, Any]] = field(default_factory=list)


def check_low_stock(context: SyncContext, *, alert: bool = True) -> LowStockReport:
    """Looks at every active item; raises an alert for each that has become low and clears those that have recovered,
    unless `alert` is False."""
    report = LowStockReport()
    low: list[Level] = []
    fresh: list[Level] = []
    over: list[str] = []
    with context.database.reading() as connection:
        alerted = open_subjects(connection, ALERT)
    for levels in _levels(context):
        found = [level for level in levels if level.low]
        low = sorted(low + found, key=lambda level: level.urgency)[:MOST_SHOWN]
        report.scanned += len(levels)
        report.low_items += len(found)
        report.out_of_stock += sum(level.on_hand <= 0 for level in levels)
        fresh += [level for level in found if level.subject not in alerted]
        over += [level.subject for level in levels if level.subject in alerted and level.recovered]
    report.low = [_row(level) for level in low]
    if alert and (fresh or over):
        texts = {level.subject: level.text for level in sorted(fresh, key=lambda level: level.urgency)}
        with context.database.writing() as connection:
            report.raised = raise_alerts(connection, kind=ALERT, texts=texts)
            report.cleared = clear_alerts(connection, kind=ALERT, subjects=over)
    return report


def soonest_low(connection: sa.Connection, settings: Settings, limit: int) -> list[dict[str, Any]]:
    """The items that sold in four weeks, those first that run out first, with the units that would last four more."""
    rows = soonest_out(connection, limit)
    keys = {(row["product_id"], row["variant_id"]): row["category_id"] for row in rows}
    rules = read_rules(connection, keys)
    found = []
    for key, row in zip(keys, rows, strict=True):
        rate, limits = row["units"] / RATE_DAYS, threshold_of(rules.get(key, NO_RULE), settings)
        level = Level(key, row["sku"] or f"item {key}", row["on_hand"], rate, *limits)
        order = max(0, row["units"] - max(0, level.on_hand))
        found.append(_row(level) | {"name": row["name"], "low": level.low, "order": order})
    return found


def threshold_of(rule: Rule, settings: Settings) -> tuple[int, int]:
    """Units and days of cover that count as low: the rules', or the settings' where no rule has them."""
    units = settings.low_stock if rule.low_stock is None else rule.low_stock
    return units, settings.cover_days if rule.cover_days is None else rule.cover_days


def _row(level: Level) -> dict[str, Any]:
    return {
        "sku": level.sku,
        "on_hand": level.on_hand,
        "threshold": level.threshold,
        "sold_per_day": round(level.per_day, 2),
        "days_left": level.days_left,
    }


def _levels(context: SyncContext) -> Iterator[list[Level]]:
    for chunk in active_items(context.database):
        with context.database.reading() as connection:
            sold = units_sold(connection, {item.product_id for _, item, _ in chunk})
        yield [
            Level(
                item.key,
                item.sku or f"item {item.key}",
                item.on_hand,
                sold.get(item.key, 0) / RATE_DAYS,
                *threshold_of(rule, context.settings),
            )
            for _, item, rule in chunk
        ]
