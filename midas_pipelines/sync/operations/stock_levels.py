"""Stock levels for people: what runs out, with one alert per crossing, and what the rules withhold from the channel."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.alerts import match_alerts, open_subjects
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.rule_tables import CURRENT, channel_rules
from midas_pipelines.store.stock import ledger
from midas_pipelines.store.stock.rules import NO_RULE, Rule, available, read_rules
from midas_pipelines.storefront.catalog import ItemKey, alert_subject
from midas_pipelines.storefront.writing import any_of
from midas_pipelines.sync.context import SyncContext

ALERT = "low_stock"
MOST_SHOWN = 20
AT_ONCE = 1000  # items whose rules are read in one statement


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
        return alert_subject(*self.key)

    @property
    def text(self) -> str:
        """The alert's words."""
        lasts = f", enough for {self.days_left:g} days" if self.days_left is not None else ""
        return f"{self.sku} has {self.on_hand} left{lasts} (low at {self.threshold}): order more."

    def as_row(self) -> dict[str, Any]:
        """For a table."""
        return {
            "sku": self.sku,
            "on_hand": self.on_hand,
            "threshold": self.threshold,
            "sold_per_day": round(self.per_day, 2),
            "days_left": self.days_left,
        }


@dataclass
class LowStockReport:
    """All stock at a glance; counts of items. `low` is sorted by how soon each runs out."""

    scanned: int = 0
    low_items: int = 0
    out_of_stock: int = 0
    raised: int = 0
    cleared: int = 0
    low: list[dict[str, Any]] = field(default_factory=list)


def check_low_stock(context: SyncContext, *, alert: bool = False) -> LowStockReport:
    """Finds the active items that are low. With `alert` raises an alert for each that has become so, brings the words of
    the others up to date, and clears those that have recovered or are no longer sold. The database picks those that may be
    low, so that the others cost nothing."""
    levels: list[Level] = []
    with context.database.reading() as connection:
        alerted = open_subjects(connection, ALERT)
        totals = ledger.stock_totals(connection, active=True)
        candidates = connection.execute(_candidates(connection, context.settings, alerted))
        for rows in candidates.partitions(AT_ONCE):
            sold = ledger.units_sold(connection, {row.product_id for row in rows})
            levels += _levels(connection, context.settings, [(row, sold.get(_key(row), 0)) for row in rows])
    levels.sort(key=lambda one: (math.inf if one.days_left is None else one.days_left, one.on_hand))
    low = [level for level in levels if level.low]
    shown = [level.as_row() for level in low[:MOST_SHOWN]]
    report = LowStockReport(totals.items, len(low), totals.out_of_stock, low=shown)
    texts = {level.subject: level.text for level in low}
    over = alerted - {level.subject for level in levels if not level.recovered}  # or no longer sold
    if alert and (low or over):
        found = context.database.write(match_alerts, kind=ALERT, texts=texts, known=over)
        report.raised, report.cleared = found
    return report


def _candidates(connection: sa.Connection, settings: Settings, alerted: Iterable[str]) -> sa.Select[Any]:
    """Selects the active items that may be low by the highest threshold and days of cover of all rules, and those with an
    alert."""
    rule, items = channel_rules.c, ledger.active_items(connection)
    highest = sa.select(sa.func.max(rule.low_stock), sa.func.max(rule.cover_days)).where(CURRENT)
    threshold, cover = connection.execute(highest).one()
    products = {int(subject.split(":")[1]) for subject in alerted}
    which = items.c.on_hand <= max(settings.low_stock, threshold or 0)
    query, which = sa.select(items), sa.or_(which, any_of(connection, items.c.product_id, products))
    if cover := max(settings.cover_days, cover or 0):
        sales, same = ledger.sales_of(items)
        query = query.outerjoin_from(items, sales, same)
        which = sa.or_(which, items.c.on_hand * ledger.RATE_DAYS < sales.c.units * cover)
    return query.where(which)


def soonest_low(connection: sa.Connection, settings: Settings, limit: int) -> list[dict[str, Any]]:
    """The items that sold in four weeks, those first that run out first, with the units that would last four more."""
    rows = ledger.soonest_out(connection, limit)
    levels = _levels(connection, settings, [(row, row.units) for row in rows])
    return [
        level.as_row()
        | {"name": row.name, "low": level.low, "order": max(0, int(row.units) - max(0, level.on_hand))}
        for row, level in zip(rows, levels, strict=True)
    ]


def _levels(
    connection: sa.Connection, settings: Settings, found: Iterable[tuple[sa.Row[Any], int]]
) -> list[Level]:
    """The levels of items with the units each sold in four weeks; thresholds are the rules', else the settings'."""
    found = list(found)
    rules, levels = _rules(connection, [row for row, _ in found]), []
    for row, sold in found:
        rule = rules.get(_key(row), NO_RULE)
        units = settings.low_stock if rule.low_stock is None else rule.low_stock
        cover = settings.cover_days if rule.cover_days is None else rule.cover_days
        name, rate = row.sku or f"item {_key(row)}", sold / ledger.RATE_DAYS
        levels.append(Level(_key(row), name, row.on_hand, rate, units, cover))
    return levels


def availability_summary(database: Database) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Applies the rules to every active item: the units on hand and available, the items that are excluded and that any
    rule touches; and those that the rules withhold most of."""
    counts = dict.fromkeys(("units_on_hand", "units_available", "excluded", "with_rules"), 0)
    ruled = list[dict[str, Any]]()
    with database.reading() as connection:
        item = ledger.active_items(connection).c
        every = sa.select(item.product_id, item.variant_id, item.sku, item.category_id, item.on_hand)
        for rows in connection.execute(every).partitions(AT_ONCE):
            rules = _rules(connection, rows)
            for row in rows:
                rule = rules.get(_key(row), NO_RULE)
                shown = available(row.on_hand, rule)
                counts["units_on_hand"] += row.on_hand
                counts["units_available"] += shown
                if rule is not NO_RULE:
                    counts["excluded"] += bool(rule.exclude)
                    counts["with_rules"] += 1
                    stock = {"sku": row.sku or "", "on_hand": row.on_hand, "available": shown}
                    origins = ", ".join(sorted(rule.origins))
                    ruled.append(stock | {"withheld": row.on_hand - shown, "rules": origins})
            ruled = sorted(ruled, key=lambda one: -one["withheld"])[:MOST_SHOWN]
    return counts, ruled


def _key(row: sa.Row[Any]) -> ItemKey:
    return (row.product_id, row.variant_id)


def _rules(connection: sa.Connection, rows: Iterable[sa.Row[Any]]) -> dict[ItemKey, Rule]:
    return read_rules(connection, {_key(row): row.category_id for row in rows})
