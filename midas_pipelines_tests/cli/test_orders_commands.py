"""`midas orders`: each mistake is one sentence and exit code 2, each failure exit code 1, and nothing is changed by either.

The commands run in this process: most of the cases are mistakes, and a process for each would take a minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from midas_pipelines.cli import cli
from midas_pipelines.store.items.claims import allow_pushes, stop_pushes
from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

Command = Callable[..., Result]
NINES = "9" * 5000
SHIP = ("ship", "{sold}", "--carrier", "ups", "--number", desk.UPS)
TERMINAL = {"FORCE_COLOR": "1", "TERM": "dumb", "COLUMNS": "80"}


@pytest.fixture
def orders(settings: dict[str, str]) -> Command:
    """Runs `midas orders` with these arguments."""

    def command(*arguments: str, typed: str | None = None, **environment: str) -> Result:
        return CliRunner().invoke(
            cli, ["orders", *arguments], env=settings | environment, input=typed, color=True
        )

    return command


@pytest.fixture
def ids(world: World) -> dict[str, str]:
    """Orders by what there is about them: one of 3 of A, one set aside, one whose id is the first's id in the shop."""
    sold = desk.sold(world, A=3)
    add_product(world.database, sku="B")
    aside = world.place(("A", 1), items="A")
    twin = world.place(("A", 1), id=str(desk.order(world, sold).local_order_id))
    world.import_orders()
    return {"sold": sold, "aside": aside, "twin": twin}


def standing(world: World) -> list[object]:
    """All that a command might have changed."""
    return [
        rows(world.database, "SELECT * FROM marketplace_orders ORDER BY id"),
        rows(world.database, "SELECT * FROM marketplace_order_lines ORDER BY id"),
        rows(world.database, "SELECT * FROM order_shipments"),
        rows(world.database, "SELECT id, status FROM orders ORDER BY id"),
        rows(world.database, "SELECT count(*) FROM order_processing_logs"),
    ]


MISTAKES: dict[str, list[tuple[tuple[str, ...], str]]] = {
    "an id": [
        (("show", ""), "No imported order has the id"),
        (("show", NINES), "No imported order has the id 999"),
        (("show", "²"), "No imported order has the id ²"),
        (("ship", "{twin}", *SHIP[2:]), "the shop's id of another: give the order number, 4S-"),
        (("resolve", "nope", "--as", "shipped"), "No imported order has the id nope"),
        (("retry", "nope"), "No imported order has the id nope"),
        (("dismiss", "nope"), "No imported order has the id nope"),
        (("erase", "nope", "--yes"), "No imported order has the id nope"),
    ],
    "a line": [
        ((*SHIP, "--line", "²"), "--line ²: give a line of the order"),
        ((*SHIP, "--line", "2"), "has no line 2: `midas orders show` numbers them"),
        ((*SHIP, "--line", ""), "--line : give a line of the order"),
        ((*SHIP, "--line", NINES), "give a line of the order"),
        ((*SHIP, "--line", "1=²"), "--line 1=²: give a number of units"),
        ((*SHIP, "--line", "1="), "give a number of units"),
        ((*SHIP, "--line", "1=0"), "give a number of units from 1 on"),
        ((*SHIP, "--line", "1=-1"), "give a number of units from 1 on"),
        ((*SHIP, "--line", f"1={NINES}"), "give a number of units from 1 on"),
        ((*SHIP, "--line", "1=4"), "has 3 left to ship, not 4"),
        (("return", "{sold}", "--line", "1=0"), "give a number of units from 1 on"),
        (("return", "{sold}", "--line", "1=1"), "Line 1 has 0 units that have left"),
        (("map", "{sold}", "--line", "9" * 25, "--sku", "B"), "is not in the range"),
        (("map", "{sold}", "--line", "-1", "--sku", "B"), "is not in the range"),
        (("map", "{sold}", "--line", "7", "--sku", "B"), "has no line 7"),
        (("map", "{sold}", "--line", "1", "--sku", "B"), "mapped to another item already"),
        (("map", "{sold}", "--line", "1", "--sku", "NONE"), "No item of the shop has the SKU NONE"),
    ],
    "a parcel": [
        (("ship", "{sold}", "--carrier", " ", "--number", desk.UPS), "needs a carrier and a tracking number"),
        (("ship", "{sold}", "--carrier", "ups", "--number", ""), "needs a carrier and a tracking number"),
        (("ship", "{sold}", "--carrier", "ups", "--number", "2" + desk.UPS[1:]), "`force` accepts it"),
        (("ship", "{sold}", "--carrier", "ups", "--number", "\x1b[2J"), "is no tracking number"),
        ((*SHIP, "--url", "javascript:alert(1)"), "address with https://"),
        ((*SHIP, "--url", "u" * 3000), "address with https://"),
        ((*SHIP, "--replaces", desk.FEDEX), f"has no shipment {desk.FEDEX} on record"),
        ((*SHIP, "--replaces", desk.FEDEX, "--line", "1"), "--replaces corrects a shipment as it is"),
        (("ship", "{sold}", "--carrier", "ups"), "Missing option '--number'"),
    ],
    "a set-aside order": [
        (("ship", "{aside}", *SHIP[2:]), "is quarantined, not imported yet"),
        (("map", "{aside}", "--line", "1", "--sku", "A"), "has no line 1"),
        (("resolve", "{aside}", "--as", "cancelled", "--restock"), "is in no conflict"),
    ],
    "a decision": [
        (("resolve", "{sold}", "--as", "shipped", "--restock"), "--restock goes with --as cancelled"),
        (("resolve", "{sold}", "--as", "shipped"), "is in no conflict: nothing was changed"),
        (("resolve", "{sold}", "--as", "sold"), "'sold' is not one of"),
        (("resolve", "{sold}"), "Missing option '--as'"),
        (("dismiss", "{sold}"), "nothing waits on it"),
    ],
    "a choice": [
        (("list", "--exception", "bogus"), "'bogus' is not one of"),
        (("list", "--status", "lost"), "'lost' is not one of"),
        (("list", "--limit", "0"), "is not in the range"),
    ],
}


@pytest.mark.parametrize("about", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2_and_changes_nothing(
    orders: Command, world: World, ids: dict[str, str], about: str
) -> None:
    before = standing(world)
    for arguments, sentence in MISTAKES[about]:
        told = orders(*(part.format(**ids) for part in arguments))
        assert (told.exit_code, told.stdout) == (2, ""), arguments
        assert sentence in told.stderr, arguments
        assert told.stderr.count("Error:") == 1
        assert len(told.stderr) < 500
    assert standing(world) == before


def test_with_json_too_a_mistake_is_a_sentence_and_no_object(orders: Command, ids: dict[str, str]) -> None:
    for arguments in (
        ("show", "nope"),
        ("resolve", ids["sold"], "--as", "shipped"),
        ("dismiss", ids["sold"]),
    ):
        told = orders(*arguments, "--json")
        assert (told.exit_code, told.stdout, told.stderr.startswith("Error: ")) == (2, "", True)


def test_bytes_that_are_no_text_are_wrong_usage(midas: Midas) -> None:
    told = midas("orders", "show", "\udcff")
    assert (told.code, told.output) == (2, "")
    assert told.errors == "Error: The command holds bytes that are no UTF-8 text: type it again.\n"


# shipping


def test_shipping_says_what_left_and_what_follows(orders: Command, world: World, ids: dict[str, str]) -> None:
    ship = [part.format(**ids) for part in SHIP]
    assert "2 units in UPS" in orders(*ship, "--line", "1=2").output
    assert "on record already; nothing changed" in orders(*ship).output
    corrected = orders(
        "ship", ids["sold"], "--carrier", "fedex", "--number", desk.FEDEX, "--replaces", desk.UPS
    )
    assert f"the shipment {desk.UPS} is FedEx {desk.FEDEX} now" in corrected.output
    rest = json.loads(orders(*ship, "--line", "1", "--json").output)
    assert (rest["units"], rest["complete"], rest["corrected"]) == (1, True, False)
    full = orders("ship", ids["sold"], "--carrier", "pigeon", "--number", "P-1")
    assert (full.exit_code, "nothing left to ship" in full.stderr) == (2, True)
    assert desk.at_4seller(world, ids["sold"]) == ("shipped", desk.UPS)


def test_a_shipment_is_on_record_while_4seller_is_away(
    orders: Command, world: World, ids: dict[str, str]
) -> None:
    away = orders(*(part.format(**ids) for part in SHIP), FOURSELLER_API_URL="http://127.0.0.1:9/v1")
    assert (away.exit_code, "4Seller does not know it: " in away.output) == (0, True)
    desk.sync(world)
    assert desk.at_4seller(world, ids["sold"]) == ("shipped", desk.UPS)


def test_4seller_does_not_know_a_shipment_of_a_part_while_pushes_are_stopped(
    orders: Command, world: World, ids: dict[str, str]
) -> None:
    part = [part.format(**ids) for part in (*SHIP, "--line", "1=1")]
    assert "4Seller knows it." in orders(*part).output
    world.database.write(stop_pushes, "stocktaking")
    more = ["fedex" if part == "ups" else part.replace(desk.UPS, desk.FEDEX) for part in part]
    assert "does not know it: Nothing is pushed to 4Seller: stocktaking." in orders(*more).output
    assert json.loads(orders(*more, "--json").output)[
        "unpushed"
    ]  # as the first answer, though nothing is new
    world.database.write(allow_pushes)
    assert "4Seller knows it." in orders(*more).output
    assert desk.at_4seller(world, ids["sold"]) == ("processing", desk.FEDEX)


def test_recording_a_shipment_again_says_that_4seller_has_refused_it(
    orders: Command, world: World, ids: dict[str, str]
) -> None:
    part = ("ship", ids["sold"], "--carrier", "Pigeon", "--number", "P-1", "--line", "1=1")
    assert "4Seller knows it." in orders(*(one.format(**ids) for one in SHIP), "--line", "1=1").output
    with desk.refused(world, 422, carrier="Pigeon"):
        for _ in range(2):  # the second does not ask 4Seller: it is tried again after a day
            assert "4Seller does not know it: 4Seller refused" in orders(*part).output


def test_a_shipment_on_record_is_not_changed_by_recording_it_again(
    orders: Command, world: World, ids: dict[str, str]
) -> None:
    ship = [part.format(**ids) for part in SHIP]
    assert "2 units in UPS" in orders(*ship, "--line", "1=2").output
    assert "Record the rest as another shipment." in orders(*ship).output
    assert "nothing changed" in orders(*ship, "--line", "1=2").output
    other = orders(*ship, "--line", "1=3")
    assert (other.exit_code, "on record with other units" in other.stderr) == (2, True)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("shipped", "4Seller knows it."),
        ("refunded", "4Seller does not know it: the order is refunded there."),
    ],
)
def test_a_correction_says_whether_4seller_is_told(
    orders: Command, world: World, ids: dict[str, str], status: str, sentence: str
) -> None:
    desk.pack(world, ids["sold"])
    desk.sync(world)
    desk.market(world, ids["sold"], status)
    world.import_orders()
    fedex = ("ship", ids["sold"], "--carrier", "fedex", "--number", desk.FEDEX)
    ups = [part.format(**ids) for part in SHIP]
    assert "on record already; nothing changed. 4Seller knows it." in " ".join(orders(*ups).output.split())
    assert sentence in " ".join(orders(*fedex, "--replaces", desk.UPS).output.split())
    desk.sync(world)
    assert (desk.at_4seller(world, ids["sold"])[1] == desk.FEDEX) is (status == "shipped")


def test_returning_a_line_without_a_count_returns_all_that_left_of_it(
    orders: Command, world: World, ids: dict[str, str]
) -> None:
    assert "0 units back in stock" in orders("return", ids["sold"]).output
    desk.pack(world, ids["sold"], units={1: 2})
    assert json.loads(orders("return", ids["sold"], "--line", "1", "--json").output)["units"] == 2
    assert "0 units back in stock" in orders("return", ids["sold"]).output


# deciding


def test_a_conflict_is_listed_settled_and_gone(orders: Command, world: World, ids: dict[str, str]) -> None:
    desk.pack(world, ids["sold"])
    desk.market(world, ids["sold"], "cancelled")
    desk.sync(world)
    refused = orders("ship", ids["sold"], "--carrier", "fedex", "--number", desk.FEDEX)
    assert (refused.exit_code, "midas orders resolve" in refused.stderr) == (2, True)
    assert ids["sold"] in orders("list", "--exception", "conflict").output
    settled = orders("resolve", ids["sold"], "--as", "cancelled", "--restock", "--json")
    assert json.loads(settled.output) == {"order": ids["sold"], "resolved": "cancelled", "restock": True}
    assert orders("list", "--exception", "conflict").output == "No such orders.\n"
    assert orders("resolve", ids["sold"], "--as", "cancelled").exit_code == 2


def test_what_a_person_has_seen_is_dismissed(orders: Command, world: World, ids: dict[str, str]) -> None:
    desk.shop_sets(world, ids["sold"], "on-hold")
    desk.sync(world)
    assert "refused dismissed" in orders("dismiss", ids["sold"]).output
    assert json.loads(orders("dismiss", ids["aside"], "--json").output)["dismissed"] == ["quarantined"]
    assert orders("dismiss", ids["sold"]).exit_code == 2
    assert orders("list", "--exception", "any").output == "No such orders.\n"


def test_what_was_dismissed_is_shown_as_that_until_it_is_tried_again(
    orders: Command, world: World, ids: dict[str, str]
) -> None:
    assert "Needs a person: quarantined" in orders("show", ids["aside"]).output
    orders("dismiss", ids["aside"])
    shown = orders("show", ids["aside"]).output
    assert "Dismissed." in shown
    assert "Needs a person" not in shown
    retried = orders("retry", ids["aside"])
    assert retried.exit_code == 1
    assert "is still quarantined" in retried.output
    desk.edit(world, ids["aside"], ("A", 1))
    assert "imported" in orders("retry", ids["aside"]).output


def test_forgetting_asks_first_and_leaves_the_order_whole(orders: Command, world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 1), customer={"email": "ann@home.example", "name": "Ann"})
    world.import_orders()
    asked = orders("erase", order_id, typed="n\n")
    assert (asked.exit_code, "for good?" in asked.output) == (1, True)
    assert "ann@home" in str(rows(world.database, "SELECT shipping_address FROM orders"))
    assert json.loads(orders("erase", order_id, "--json").output)["erased"] is True
    assert "ann@home" not in str(rows(world.database, "SELECT shipping_address FROM orders"))
    desk.assert_whole(world)


# trying again


def test_a_retry_that_4seller_or_the_order_stands_in_the_way_of_is_exit_code_1(
    orders: Command, world: World, ids: dict[str, str]
) -> None:
    aside = orders("retry", ids["aside"])
    assert (aside.exit_code, "is still quarantined: " in aside.output) == (1, True)
    assert json.loads(orders("retry", ids["aside"], "--json").output)["exception"] == "quarantined"
    world.faults(s500=1.0)
    down = orders("retry", ids["sold"])
    assert (down.exit_code, down.stderr.startswith("Error: 4Seller answered 500")) == (1, True)
    world.faults()
    del world.sandbox.state.orders[ids["sold"]]
    gone = orders("retry", ids["sold"])
    assert (gone.exit_code, "4Seller has no order" in gone.stderr) == (2, True)


def test_a_status_sync_tells_what_it_did_and_a_failed_one_is_an_object_too(
    settings: dict[str, str], world: World
) -> None:
    orders = [desk.sold(world, **{sku: 1}) for sku in "ABC"]
    desk.pack(world, orders[0])
    desk.market(world, orders[1], "processing")
    desk.shop_sets(world, orders[2], "on-hold")
    told = CliRunner().invoke(cli, ["sync", "status", "--json"], env=settings)
    counts = json.loads(told.stdout)
    assert [counts[name] for name in ("scanned", "pushed", "refused", "updated")] == [2, 1, 1, 1]
    assert (told.exit_code, counts["outcome"]) == (0, "done")
    world.faults(s500=1.0)
    failed = CliRunner().invoke(cli, ["sync", "status", "--json"], env=settings)
    assert (failed.exit_code, json.loads(failed.stdout)["outcome"]) == (1, "failed")
    assert failed.stderr.startswith("Error: 4Seller answered 500")


# on the screen


def test_a_title_is_shown_as_it_is_and_moves_no_cursor(orders: Command, world: World) -> None:
    title = "[red]Screen[/red] \x1b[2J\x1b]0;x\x07 ☃"
    item = {"sku": "A", "title": title, "quantity": 1, "price": "10.00"}
    order_id = world.place(("A", 1), items=[item])
    world.import_orders()
    for environment in ({}, TERMINAL):
        shown = orders("show", order_id, **environment).output
        assert "\x1b[2J" not in shown
        assert "\x07" not in shown
        assert "[red]" in shown
    assert "[red]Screen[/red]" in orders("show", order_id).output


def test_on_80_columns_no_line_is_longer_and_nothing_is_cut_off(orders: Command, world: World) -> None:
    for number in range(3):
        world.place(("NONE", 1), id=f"114-{number}" * 9, total="1.00", sales_channel="walmart marketplace")
    world.import_orders()
    listed = orders("list", **TERMINAL).output
    assert max(len(line) for line in listed.splitlines()) <= 80
    assert "…" not in listed
    order_cells = [line.split("│")[1].strip() for line in listed.splitlines() if line.startswith("│")]
    assert all(f"114-{number}" * 9 in "".join(order_cells) for number in range(3))


def test_one_more_order_than_is_shown_is_told(orders: Command, world: World) -> None:
    for _ in range(3):
        world.place(("A", 1))
    world.import_orders()
    assert "--limit 4 shows the next ones too" in orders("list", "--limit", "2").output
    assert json.loads(orders("list", "--limit", "2", "--json").output)["more"] is True
    assert json.loads(orders("list", "--limit", "3", "--json").output)["more"] is False
