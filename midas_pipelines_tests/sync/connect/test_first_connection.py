"""The first sync on an account that has listings waits for a person; what they are is previewed and confirmed."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.errors import NotConnected
from midas_pipelines.store.schema.tables import cursors
from midas_pipelines.sync.connect.first_connection import (
    confirm_matches,
    make_preview,
    read_pairs,
    write_csv,
)
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.sync.rules.edit import set_rule
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.world import World


@pytest.fixture
def stranger(world: World) -> World:
    """A shop that was never connected, and an account with listings."""
    with world.database.writing() as connection:
        connection.execute(sa.delete(cursors).where(cursors.c.name == "connected"))
    add_product(world.database, sku="SCR-1", name="Screen", price=Decimal("20.00"), stock_quantity=0)
    add_product(world.database, sku="BAT-2", name="Battery", price=Decimal("10.00"))
    for sku, price in (("SCR-1", "10.00"), ("bat 2", "10.00")):
        draft = {"sku": sku, "title": f"Their {sku}", "price": price, "inventory": {"quantity": 7}}
        world.sandbox.state.create(draft, None)
    return world


def test_nothing_is_written_before_a_person_accepts(stranger: World) -> None:
    before = stranger.shown
    for act in (stranger.full, stranger.incremental):
        with pytest.raises(NotConnected, match="midas connect accept"):
            act()
    asyncio.run(reconcile(stranger.sync_context()))
    assert stranger.shown == before
    asyncio.run(confirm_matches(stranger.sync_context(), [], accept=True))
    stranger.full()
    assert stranger.wanted.items() <= stranger.shown.items()


def test_an_account_without_listings_needs_no_word(world: World) -> None:
    with world.database.writing() as connection:
        connection.execute(sa.delete(cursors).where(cursors.c.name == "connected"))
    add_product(world.database, sku="SCR-1")
    assert world.calls(world.full) == {"GET": 1, "POST": 1}  # the listing is read once
    assert world.shown == world.wanted


def test_the_preview_shows_the_worst_first_and_writes_nothing(stranger: World) -> None:
    def look() -> None:
        rows = asyncio.run(make_preview(stranger.sync_context()))
        assert [row.result for row in rows] == ["sku", "spelling"]
        worst = rows[0]
        assert (worst.sku, worst.price, worst.quantity) == ("SCR-1", "10.00 -> 20.00", "7 -> 0")

    assert stranger.writes(look) == 0


def test_matches_come_back_from_the_csv(stranger: World, tmp_path: Path) -> None:
    path = tmp_path / "connect.csv"
    write_csv(asyncio.run(make_preview(stranger.sync_context())), path)
    pairs = read_pairs(path, ("sku", "spelling"))
    assert asyncio.run(confirm_matches(stranger.sync_context(), pairs, accept=True)) == 2
    ids = set(stranger.sandbox.state.products)
    stranger.full()
    assert set(stranger.sandbox.state.products) == ids
    assert stranger.shown == stranger.wanted


@pytest.mark.parametrize("pairs", [[("SCR-1", "no such")], [("SCR-1", "P000001"), ("SCR-1", "P000002")]])
def test_a_wrong_match_changes_nothing(stranger: World, pairs: list[tuple[str, str]]) -> None:
    with pytest.raises((WrongInput, Exception)):
        asyncio.run(confirm_matches(stranger.sync_context(), pairs, accept=True))
    with pytest.raises(NotConnected):
        stranger.full()


@pytest.mark.parametrize("confirmed", [False, True])
def test_adopting_keeps_the_content_where_a_policy_says_so(stranger: World, confirmed: bool) -> None:
    set_rule(stranger.database, {"content_policy": "marketplace_wins"})
    pairs = [("SCR-1", next(iter(stranger.sandbox.state.products)))] if confirmed else []
    asyncio.run(confirm_matches(stranger.sync_context(), pairs, accept=True))
    stranger.full()
    asyncio.run(reconcile(stranger.sync_context()))
    stranger.set(1, stock_quantity=3)
    stranger.full()
    assert stranger.shown["SCR-1"] == ("Their SCR-1", Decimal("20.00"), 3)
