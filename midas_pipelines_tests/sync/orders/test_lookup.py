"""Finding an order by what a person has at hand, and what a line may be mapped to."""

from __future__ import annotations

import pytest

from midas_pipelines.sync.orders.lookup import NoSuchOrder, find_order
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.stock.pending_lines import CannotChangeLine, map_line
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import order_json
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

ALIKE = ["X-1", "x-1", " X-1", "X-1 ", "X-\u00e9", "X-e\u0301", "X_1", "X%"]


def found(world: World, text: str) -> str:
    """The marketplace's id of the order that this text names."""
    with world.database.reading() as connection:
        return str(find_order(connection, text).marketplace_order_id)


def test_each_of_ids_that_look_alike_finds_its_own_order(world: World) -> None:
    paper.polled(world, *(order_json(order_id=name) for name in ALIKE))
    assert [found(world, name) for name in ALIKE] == ALIKE


def test_an_order_is_found_by_any_of_its_three_names(world: World) -> None:
    paper.polled(world, order_json())
    local = desk.order(world, "X-1").local_order_id
    for spelled in ("X-1", " X-1", "4S-X-1", "4S-X-1 ", f"{local}", f" {local}"):
        assert found(world, spelled) == "X-1", spelled
    for text in ("", "X", "X-1%", "4S-", "0", "99999999999999999999", "\u0661", "X-1\u00a0Y"):
        with pytest.raises(NoSuchOrder):
            assert not found(world, text), text


def test_an_id_that_is_anothers_number_is_asked_about(world: World) -> None:
    paper.polled(world, order_json())
    local = str(desk.order(world, "X-1").local_order_id)
    paper.polled(world, order_json(order_id=local))
    with pytest.raises(NoSuchOrder, match=f"4S-X-1 or 4S-{local}|4S-{local} or 4S-X-1"):
        found(world, local)
    assert found(world, f"4S-{local}") == local


def test_an_id_means_the_order_that_goes_by_no_other_name(world: World) -> None:
    paper.polled(world, order_json())
    local = str(desk.order(world, "X-1").local_order_id)
    paper.polled(world, order_json(order_id=local, items="A"))
    assert [found(world, local), found(world, "4S-X-1")] == [local, "X-1"]
    assert desk.dismissed(world, local) == ["quarantined"]
    assert found(world, local) == local
    paper.put(world, order_json(order_id=local))
    assert desk.retry(world, local).imported
    with pytest.raises(NoSuchOrder, match=f"4S-{local}"):
        found(world, local)


def test_a_line_is_mapped_once_and_to_one_item(world: World) -> None:
    one, other = (add_product(world.database) for _ in range(2))
    paper.polled(world, order_json("THEIRS", 2))
    row = desk.order(world, "X-1").id
    with pytest.raises(CannotChangeLine, match="no line 2"):
        map_line(world.database, row, 2, (one, None), OrderContext())
    assert map_line(world.database, row, 1, (one, None), OrderContext())
    with pytest.raises(CannotChangeLine, match="another item"):
        map_line(world.database, row, 1, (other, None), OrderContext())
    assert [desk.stock(world, product) for product in (one, other)] == [3, 5]
    desk.assert_whole(world)


def test_a_line_of_an_order_that_was_set_aside_cannot_be_mapped(world: World) -> None:
    product = add_product(world.database)
    paper.polled(world, order_json("THEIRS", items="A"))
    with pytest.raises(CannotChangeLine, match="no line 1"):
        map_line(world.database, desk.order(world, "X-1").id, 1, (product, None), OrderContext())
