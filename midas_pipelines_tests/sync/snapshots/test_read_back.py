"""The consistency figure of the snapshots is the read-back's own: they judge each item by one rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from midas_pipelines.store.operations.backlog import overview
from midas_pipelines.store.operations.sync_metrics import read_trends
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.sync.rules.edit import set_rule
from midas_pipelines.sync.snapshots import consistency, files
from midas_pipelines.sync.snapshots.consistency import measure
from midas_pipelines.sync.snapshots.files import CATALOG, LISTING, Snapshots, place
from midas_pipelines.sync.snapshots.take import snapshot_catalog, snapshot_listing
from midas_pipelines_tests.shop import add_product, add_variant, run
from midas_pipelines_tests.sync.world import World


def refused(world: World) -> None:
    world.refuse(422, "A-1")
    world.set(1, price="12.00")
    world.incremental()


def refused_when_new(world: World) -> None:
    world.refuse(422, "NEW")
    add_product(world.database, sku="NEW")
    world.incremental()


def sharing_its_sku(world: World) -> None:
    add_variant(world.database, add_product(world.database), sku="A-1")
    world.incremental()


def failing(world: World) -> None:
    world.habits("product-updates-ignored")
    world.set(1, price="12.00")
    world.incremental()


def overdue(world: World) -> None:
    world.set(1, price="12.00")
    run(
        world.database,
        "UPDATE fourseller_product_mappings SET dirty_since = '2026-01-01 00:00:00.000000' WHERE sku = 'A-1'",
    )


def edited_on_4seller(world: World, policy: str = "manual") -> None:
    set_rule(world.database, {"policy": policy})
    world.incremental()
    world.listed["A-1"]["price"] = "99.00"
    asyncio.run(reconcile(world.sync_context()))


def deleted_on_4seller(world: World) -> None:
    set_rule(world.database, {"policy": "manual"})
    world.incremental()
    world.sandbox.state.remove(world.listed["A-1"]["id"])
    asyncio.run(reconcile(world.sync_context()))


def kept_as_edited(world: World) -> None:
    edited_on_4seller(world, "marketplace_wins")


def edited_since_orders_were_imported(world: World) -> None:
    world.listed["A-1"] |= {"price": "99.00", "updated_at": "2099-01-01T00:00:00Z"}


def changed_just_now(world: World) -> None:
    world.set(1, price="12.00")


def both_taken(context: SyncContext) -> None:
    """Takes both snapshots of today."""
    kept, today = Snapshots.of(context.settings), context.settings.today()
    taken = {CATALOG: snapshot_catalog(context, "x")[0], LISTING: asyncio.run(snapshot_listing(context, "x"))}
    for kind, spool in taken.items():
        place(spool.path, kept.path(kind, today))


@pytest.mark.parametrize(
    ("happens", "differs", "share"),
    [
        (refused, [("A-1", "price")], 0.75),
        (refused_when_new, [("NEW", "listing")], 0.8),
        (sharing_its_sku, [("A-1", "listing")], 0.8),
        (failing, [("A-1", "price")], 0.75),
        (overdue, [("A-1", "price")], 0.75),
        (edited_on_4seller, [("A-1", "price")], 0.75),
        (deleted_on_4seller, [("A-1", "listing")], 0.75),
        (edited_since_orders_were_imported, [("A-1", "price")], 0.75),
        (kept_as_edited, [], 1.0),
        (changed_just_now, [], 1.0),
    ],
)
def test_both_figures_count_the_same_items_as_differing(
    world: World,
    tmp_path: Path,
    happens: Callable[[World], None],
    differs: list[tuple[str, str]],
    share: float,
) -> None:
    for number in range(1, 5):
        add_product(world.database, sku=f"A-{number}", price="10.00")
    world.changes |= {"snapshots": str(tmp_path), "read_back_grace_seconds": 0}
    world.full()
    happens(world)
    context = world.sync_context()
    both_taken(context)
    found, report = measure(context), asyncio.run(reconcile(context))
    assert [(row["sku"], row["fields"]) for row in found.counterexamples.to_dict("records")] == differs
    assert (found.share, found.changing) == (share, report.changing)
    assert overview(world.database).consistency == report.consistency == share  # as `/status` shows it
    assert read_trends(world.database, datetime.now(UTC))["consistency"][-1] == share  # and the console


def test_snapshots_are_compared_a_part_at_a_time(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, compared = list[tuple[int, int]](), consistency.compare

    def counted(catalog: pd.DataFrame, listing: pd.DataFrame, **moments: datetime) -> consistency.Consistency:
        parts.append((len(catalog), len(listing)))
        return compared(catalog, listing, **moments)

    monkeypatch.setattr(files, "CHUNK", 2)
    monkeypatch.setattr(consistency, "compare", counted)
    for number in range(1, 6):
        add_product(world.database, sku=f"A-{number}", price="10.00")
    world.changes |= {"snapshots": str(tmp_path), "read_back_grace_seconds": 0}
    world.full()
    for number in (2, 5):
        world.sandbox.state.edit(world.listed[f"A-{number}"]["id"], {"price": "11.00"})
    world.listed["A-1"]["updated_at"] = "9999-12-31T00:00:00Z"
    world.listed["A-3"]["updated_at"] = None
    world.sandbox.state.products.pop(world.listed["A-4"]["id"])
    both_taken(world.sync_context())
    found = measure(world.sync_context())
    assert parts == [(2, 2), (2, 1), (1, 1)]
    assert (found.items, found.equal, found.differing) == (5, 2, 3)
    assert list(found.counterexamples["fields"]) == ["price", "listing", "price"]
