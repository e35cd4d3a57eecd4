"""`midas explain` and `midas diff`: what 4Seller shows for an item or showed on a past day, what changed, and why."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import Answering, answer
from midas_pipelines.store.items.shards import shard_names
from midas_pipelines.sync.explain import explain_item as explanation_of
from midas_pipelines.sync.explain import lineage
from midas_pipelines.sync.snapshots.files import Snapshots
from midas_pipelines.sync.snapshots.time_travel import diff as diff_of
from midas_pipelines.sync.snapshots.time_travel import explain_at, lines_at

DAY = click.DateTime(["%Y-%m-%d"])


@click.command(cls=Answering)
@click.argument("sku")
@click.option("--at", "at", type=DAY, help="As it was on that day, by the snapshots: YYYY-MM-DD.")
def explain(sku: str, at: datetime | None) -> None:
    """Print the lineage of what 4Seller shows of an item: what it confirmed, the rule, the ledger rows, their causes."""
    with shop_database() as (settings, database):
        if at is None:
            explanation = explanation_of(database, sku, settings.title_limit)
        else:
            explanation = explain_at(database, settings, sku, at.date())
    lines = lineage(explanation) if at is None else lines_at(explanation)
    if at is None and "mapping_id" in explanation:
        names = shard_names(settings.shards)
        lines.append(f"Shard {names[explanation['mapping_id'] % len(names)]} in Dagster.")
    title = f"{sku}:" if at is None else f"{sku} on {at:%Y-%m-%d}:"
    answer(explanation, title, *(f"  {line}" for line in lines))


@click.command(cls=Answering)
@click.option("--from", "start", type=DAY, required=True, help="The earlier day, YYYY-MM-DD.")
@click.option("--to", "end", type=DAY, help="The later day; today where it is left out.")
@click.option("--sku", "skus", multiple=True, metavar="SKU", help="Only this item; may be repeated.")
@click.option("--most", type=click.IntRange(1, 10_000), default=50, help="Products shown.")
def diff(start: datetime, end: datetime | None, skus: tuple[str, ...], most: int) -> None:
    """Print what 4Seller shows otherwise than on an earlier day, and why: shop, ledger, orders, rules, conflicts.

    Reads the snapshots that `midas sync products --full` and `midas reconcile` leave each day.
    """
    with shop_database() as (settings, database):
        last = settings.today() if end is None else end.date()
        if last <= start.date():
            raise click.UsageError(f"--to ({last}) must be a later day than --from ({start:%Y-%m-%d}).")
        found = diff_of(database, Snapshots.of(settings), start.date(), last, skus=skus, most=most)
    span = f"from {found.start:%Y-%m-%d %H:%M} to {found.end:%Y-%m-%d %H:%M} UTC"
    said = [f"{found.total} products changed on 4Seller {span}."]
    for one in found.changed:
        moves = "; ".join(f"{name} {_said(old)} → {_said(new)}" for name, (old, new) in one.fields.items())
        said.append(f"{one.sku or '(no SKU)'} {one.what}: {moves or 'its text or images'}")
        said += [f"  <- {line}" for line in one.why]
    if found.total > len(found.changed):
        said.append(f"Showing {len(found.changed)} of {found.total}; --most shows more, --sku one item.")
    answer(asdict(found), *said)


def _said(value: object) -> str:
    return "nothing" if value is None else str(value)
