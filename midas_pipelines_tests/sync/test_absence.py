"""A list proves presence, never absence: nothing is listed twice because a list or a look-up did not show it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from midas_pipelines.fourseller.models import Product
from midas_pipelines.sandbox.state import Json, Refused, State
from midas_pipelines.sync.listings.adopt import meant, owner
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.world import World

FIND = State.find


class Lists:
    """Has the sandbox's lists and look-ups show something else than what it holds."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hidden: set[str] = set()
        self.ghosts: list[Json] = []
        self.lookups_too = True
        state = world.sandbox.state

        def find(*, sku: str | None, **rest: Any) -> list[Json]:
            found = FIND(state, sku=sku, **rest)
            if sku is not None and not self.lookups_too:
                return found
            kept = [one for one in found if one["id"] not in self.hidden]
            return kept + [one for one in self.ghosts if sku in (None, one["sku"])]

        monkeypatch.setattr(state, "find", find)


@pytest.fixture
def lists(world: World, monkeypatch: pytest.MonkeyPatch) -> Lists:
    return Lists(world, monkeypatch)


@pytest.fixture
def twelve(world: World, lists: Lists) -> World:
    """Twelve items, all on 4Seller."""
    for number in range(12):
        add_product(world.database, sku=f"A-{number}")
    world.full()
    return world


def ids(world: World) -> list[str]:
    return list(world.sandbox.state.products)


def reconciled(world: World) -> Any:
    return asyncio.run(reconcile(world.sync_context(read_back_grace_seconds=0)))


def alerts(world: World, kind: str = "listing") -> int:
    found: int = value(
        world.database, "SELECT count(*) FROM alerts WHERE kind = :kind AND cleared_at IS NULL", kind=kind
    )
    return found


@pytest.mark.parametrize("left", [0, 1, 6, 8])
def test_a_list_that_lacks_much_is_not_believed_and_nothing_is_listed_twice(
    twelve: World, lists: Lists, left: int
) -> None:
    lists.hidden = set(ids(twelve)[left:])
    report = twelve.full()
    assert (report.created, len(twelve.listed), alerts(twelve)) == (0, 12, 1)
    assert "lacks" in report.problems[0]["reason"]
    report = reconciled(twelve)
    assert (report.complete, report.pushed, len(twelve.listed)) == (False, 0, 12)
    lists.hidden = set()
    twelve.full()
    assert (len(twelve.listed), alerts(twelve), reconciled(twelve).consistency) == (12, 0, 1.0)


def test_an_empty_list_right_after_the_first_sync_alerts_too(twelve: World, lists: Lists) -> None:
    twelve.changes |= {"list_lag_seconds": 60}
    lists.hidden = set(ids(twelve))
    assert (twelve.full().created, len(twelve.listed), alerts(twelve)) == (0, 12, 1)


def test_a_page_refused_for_its_offset_leaves_the_list_incomplete(world: World) -> None:
    for number in range(101):
        add_product(world.database, sku=f"A-{number}")
    world.full()
    world.sandbox.habits.set("deep-offsets-refused=50")
    report = world.full()
    assert (report.created, len(world.listed), len(report.problems)) == (0, 101, 1)


@pytest.mark.parametrize("habit", ["short-lists=10", "no-totals", "capped-totals=100"])
def test_a_list_with_an_odd_end_hides_no_edit_and_no_order(world: World, habit: str) -> None:
    for number in range(120):  # a page holds a hundred
        add_product(world.database, sku=f"A-{number}")
    world.full()
    world.sandbox.habits.set(habit)
    world.listed["A-119"]["inventory"]["quantity"] = 99
    report = reconciled(world)
    assert (report.not_seen, report.discrepancies) == (0, 1)
    assert world.listed["A-119"]["inventory"]["quantity"] == 5
    if habit.startswith("capped"):
        for number in range(120):
            world.place((f"A-{number}", 1))
        assert world.import_orders().imported == 120


def test_a_list_that_lacks_a_few_is_completed_by_id(twelve: World, lists: Lists) -> None:
    lists.hidden = set(ids(twelve)[:2])
    assert twelve.calls(twelve.full) == {"GET": 4}
    report = reconciled(twelve)
    assert (report.complete, report.equal, len(twelve.listed)) == (True, 12, 12)


@pytest.mark.parametrize("status", [500, 409])
def test_an_id_that_answers_with_an_error_proves_nothing(
    twelve: World, lists: Lists, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = ids(twelve)[0]
    lists.hidden = {hidden}
    state = twelve.sandbox.state

    def product(key: str) -> Json:
        if key == hidden:
            raise Refused(status, "odd", "Try later.")
        return State.product(state, key)

    monkeypatch.setattr(state, "product", product)
    twelve.full()
    assert len(twelve.listed) == 12


def test_what_persons_deleted_is_listed_again_and_no_more(twelve: World) -> None:
    for product_id in ids(twelve)[:2]:
        twelve.sandbox.state.remove(product_id)
    twelve.changes |= {"list_lag_seconds": 60}
    assert (twelve.full().created, len(twelve.listed)) == (2, 12)
    assert twelve.calls(twelve.full) == {"GET": 2}


def test_many_that_are_gone_by_id_too_wait_for_a_person(twelve: World) -> None:
    for product_id in ids(twelve)[:11]:
        twelve.sandbox.state.remove(product_id)
    for sync in (twelve.full, twelve.incremental):
        report = sync()
        assert (report.held, report.created) == (11, 0)
    assert len(twelve.listed) == 1
    twelve.changes |= {"brake_percent": 100}
    twelve.full()
    assert len(twelve.listed) == 12


def test_a_quantity_refused_with_404_is_no_proof_that_the_product_is_gone(
    twelve: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_quantity(key: str, quantity: int) -> Json:
        raise Refused(404, "no_stock_record", "There is no stock record.")

    monkeypatch.setattr(twelve.sandbox.state, "set_quantity", set_quantity)
    run(twelve.database, "UPDATE products SET stock_quantity = 4 WHERE sku = 'A-1'")
    twelve.incremental()
    twelve.incremental()
    assert len(twelve.listed) == 12
    assert value(twelve.database, "SELECT attempts FROM fourseller_product_mappings WHERE sku = 'A-1'") > 0


# a create whose answer was lost


@pytest.fixture
def lost(world: World, lists: Lists, monkeypatch: pytest.MonkeyPatch) -> World:
    """One item, whose first create is carried out and not answered; keys are ignored, look-ups lag a minute."""
    add_product(world.database, sku="Lost-1")
    state = world.sandbox.state
    state.honour_idempotency_key = False
    create = state.create

    def once(draft: Json, key: str | None = None) -> Json:
        lists.hidden.add(create(draft, key)["id"])
        monkeypatch.setattr(state, "create", create)
        raise Refused(500, "oops", "Something broke.")

    monkeypatch.setattr(state, "create", once)
    world.changes |= {"list_lag_seconds": 60}
    return world


def later(world: World) -> None:
    """A minute goes by."""
    run(
        world.database, "UPDATE fourseller_product_mappings SET creating_since = '2026-01-01 00:00:00.000000'"
    )


@pytest.mark.parametrize("sync", [World.incremental, World.full], ids=["incremental", "full"])
def test_a_lost_create_is_not_sent_again_while_look_ups_lag(lost: World, lists: Lists, sync: Any) -> None:
    for _ in range(3):
        sync(lost)
    assert len(lost.sandbox.state.products) == 1
    lists.hidden.clear()
    lost.full()
    lost.full()
    assert (len(lost.listed), lost.dirty) == (1, 0)


def test_a_create_that_was_never_carried_out_is_sent_again_after_a_minute(lost: World, lists: Lists) -> None:
    lost.incremental()
    lost.sandbox.state.remove(ids(lost)[0])
    lost.full()
    assert ids(lost) == []
    later(lost)
    lost.full()
    assert (lost.shown, lost.dirty) == (lost.wanted, 0)


LOOKED_UP = [(World.incremental, spelling) for spelling in ("LOST-1", "lost-1")]
LISTED = [(World.full, spelling) for spelling in ("LOST-1", "lost-1", " Lost-1 ", "Lost\uff0d1")]


@pytest.mark.parametrize(("sync", "spelling"), [*LOOKED_UP, *LISTED])
def test_a_lost_create_is_found_under_another_spelling(
    lost: World, lists: Lists, sync: Any, spelling: str
) -> None:
    """No look-up can guess the last two; the list shows whose they are."""
    lost.incremental()
    (product,) = lost.sandbox.state.products.values()
    lost.sandbox.state.edit(product["id"], {"sku": spelling})
    lists.hidden.clear()
    for _ in range(2):
        sync(lost, **({} if sync is World.full else {"ignore_delays": True}))
    assert (len(lost.sandbox.state.products), lost.dirty) == (1, 0)


# what our own deletion left in the lists


def test_a_deleted_product_that_is_still_listed_is_not_adopted(world: World, lists: Lists) -> None:
    product = add_product(world.database, sku="Back")
    world.full()
    lists.ghosts = list(world.sandbox.state.products.values())
    world.set(product, status="archived")
    world.full()
    world.set(product, status="active")
    world.full()
    assert (world.shown, world.dirty) == (world.wanted, 0)
    assert rows(world.database, "SELECT 1 FROM fourseller_product_mappings WHERE state <> 'listed'") == []


# whose product it is


def a_product(sku: str | None, **metadata: Any) -> Product:
    return Product(id="P1", sku=sku, metadata=metadata or None)


OURS = {"source": "midastechnical", "product_id": 7, "variant_id": None}
OWNERS: list[tuple[dict[str, Any], Any]] = [
    (OURS, (7, None)),
    ({"source": " MidasTechnical", "product_id": "7", "variant_id": ""}, (7, None)),
    ({"source": "midastechnical", "product_id": "7", "variant_id": "3"}, (7, 3)),
    ({"source": "another", "product_id": 7}, None),
    ({"source": "midastechnical"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("metadata", "expected"), OWNERS)
def test_our_metadata_says_whose_a_product_is(metadata: dict[str, Any], expected: Any) -> None:
    assert owner(a_product("X", **metadata)) == expected


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        (a_product("A & B"), True),
        (a_product("a &amp; b"), True),
        (a_product("A\u00a0&B"), True),
        (a_product("ELSE", **OURS), True),
        (a_product(None, **OURS), True),
        (a_product("a & b", **(OURS | {"product_id": 8})), False),
        (a_product("ELSE"), False),
        (a_product(None), False),
    ],
)
def test_a_product_is_meant_by_sku_by_mark_or_by_another_spelling(product: Product, expected: bool) -> None:
    assert bool(meant("A & B", (7, None), [product])) is expected


def test_a_spelling_that_another_item_has_is_that_items(world: World) -> None:
    world.sandbox.state.create({"sku": "ABC", "title": "Theirs", "price": "1.00"})
    add_product(world.database, sku="abc")
    add_product(world.database, sku="ABC")
    world.full()
    assert (world.shown, len(ids(world))) == (world.wanted, 2)


# what should be gone


def twin_of(world: World, sku: str) -> str:
    """A second product of an item, as a create of unknown result leaves one."""
    made = {key: part for key, part in world.listed[sku].items() if key != "id"}
    found: str = world.sandbox.state.create(made)["id"]
    return found


@pytest.mark.parametrize("act", [World.full, lambda world: reconciled(world)], ids=["full", "reconcile"])
def test_a_second_product_of_an_item_is_taken_off_and_the_first_stays(twelve: World, act: Any) -> None:
    before = twelve.listed["A-3"]["id"]
    twin_of(twelve, "A-3")
    twelve.sandbox.state.create({"sku": "STRANGER", "title": "Stranger", "price": "1.00"})
    act(twelve)
    assert (len(ids(twelve)), twelve.listed["A-3"]["id"], alerts(twelve, "stray_product")) == (13, before, 1)
    act(twelve)
    assert (len(ids(twelve)), alerts(twelve, "stray_product")) == (13, 0)


def test_a_product_that_came_back_after_our_deletion_is_taken_off_again(twelve: World) -> None:
    gone = dict(twelve.listed["A-3"])
    run(twelve.database, "UPDATE products SET status = 'archived' WHERE sku = 'A-3'")
    twelve.full()
    twelve.sandbox.state.create({key: part for key, part in gone.items() if key != "id"})
    twelve.full()
    assert ("A-3" in twelve.listed, alerts(twelve, "stray_product")) == (False, 1)


def test_what_cannot_be_deleted_is_not_for_sale_and_staff_are_alerted(twelve: World) -> None:
    twin = twin_of(twelve, "A-3")
    twelve.sandbox.habits.set("deletes-ignored")
    twelve.full()
    left = twelve.sandbox.state.products[twin]["inventory"]["quantity"]
    assert (left, alerts(twelve, "stray_product")) == (0, 1)
    run(twelve.database, "UPDATE products SET status = 'archived' WHERE sku = 'A-4'")
    for _ in range(7):
        twelve.full()
    assert alerts(twelve, "stray_product") == 2
    twelve.sandbox.habits.set()
    for _ in range(3):
        twelve.full()
    assert (len(twelve.listed), twelve.dirty, alerts(twelve, "stray_product")) == (11, 0, 0)


def test_a_ghost_in_the_list_is_no_product_and_costs_no_write(twelve: World, lists: Lists) -> None:
    lists.ghosts = [{**twelve.listed["A-3"], "id": "P999"}]
    assert twelve.writes(twelve.full) == 0
    assert (reconciled(twelve).orphans, alerts(twelve, "stray_product")) == (0, 0)


def test_many_products_of_what_the_shop_never_had_wait_for_a_person(twelve: World, lists: Lists) -> None:
    for number in range(10):
        made = {
            **twelve.listed["A-1"],
            "sku": f"OLD-{number}",
            "metadata": OURS | {"product_id": 900 + number},
        }
        made.pop("id")
        twelve.sandbox.state.create(made)
    twelve.full()
    assert (len(ids(twelve)), alerts(twelve, "stray_product")) == (22, 10)
    assert reconciled(twelve).orphans == 10
    before = value(twelve.database, "SELECT count(*) FROM alerts WHERE kind = 'stray_product'")
    lists.hidden = set(ids(twelve)[6:])  # so a list that is not believed
    assert (reconciled(twelve).complete, alerts(twelve, "stray_product")) == (False, 10)
    lists.hidden = set()
    assert reconciled(twelve).complete
    assert value(twelve.database, "SELECT count(*) FROM alerts WHERE kind = 'stray_product'") == before


def test_a_product_of_an_item_that_is_not_tied_yet_is_adopted(twelve: World) -> None:
    run(
        twelve.database,
        "UPDATE fourseller_product_mappings SET fourseller_product_id = NULL, sku = NULL, state = 'new' WHERE sku = 'A-3'",
    )
    twelve.sandbox.state.edit(twelve.listed["A-3"]["id"], {"sku": "a-3 "})
    reconciled(twelve)
    assert (len(ids(twelve)), twelve.shown) == (12, twelve.wanted)


def test_a_list_that_shows_ids_in_other_letters_shows_the_same_products(
    twelve: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = twelve.sandbox.state
    lower = lambda **asked: [{**one, "id": one["id"].lower()} for one in FIND(state, **asked)]  # noqa: E731
    monkeypatch.setattr(state, "find", lower)
    report = reconciled(twelve)
    assert (report.equal, report.orphans, len(twelve.listed)) == (12, 0, 12)
    assert twelve.writes(twelve.full) == 0


def test_many_products_that_look_like_seconds_wait_for_a_person(twelve: World, lists: Lists) -> None:
    twelve.sync_context(brake_items=3)
    lists.ghosts = [{**one, "id": f"gid:{one['id']}"} for one in twelve.sandbox.state.products.values()]
    assert twelve.writes(lambda: reconciled(twelve)) == 0
    assert (len(twelve.listed), alerts(twelve, "stray_product")) == (12, 1)


def test_products_that_were_gone_and_are_back_are_adopted_whatever_the_brake(
    twelve: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    twelve.sync_context(brake_items=3)
    state = twelve.sandbox.state
    kept = dict(state.products)
    state.products.clear()
    assert (twelve.full().held, len(twelve.listed)) == (12, 0)
    report = reconciled(twelve)
    assert (report.consistency, report.differing) == (0.0, {"listing": 12})
    state.products.update(kept)
    assert (twelve.full().held, twelve.shown, twelve.dirty) == (0, twelve.wanted, 0)
