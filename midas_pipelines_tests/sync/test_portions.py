"""Each workflow takes no more at once than its own setting says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from midas_pipelines.store.items import claims
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.sync.orders.intake import pages as intake
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.world import World

PER_PAGE = 100


def test_products_and_quantities_have_portions_of_their_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    claim = claims.claim

    def counted(*given: Any, **options: Any) -> list[Mapping]:
        found = claim(*given, **options)
        taken.append(len(found))
        return found

    monkeypatch.setattr(claims, "claim", counted)
    world.changes |= {"products_batch": 3, "inventory_batch": 2}
    made = [add_product(world.database) for _ in range(7)]
    world.full()
    assert max(taken) == 3
    taken.clear()
    for product in made:
        world.set(product, stock_quantity=1)
    world.inventory()
    assert max(taken) == 2


@pytest.mark.parametrize(("batch", "pages"), [(100, [1, 1, 1]), (2000, [3])])
def test_orders_are_imported_in_whole_pages_up_to_their_portion(
    world: World, monkeypatch: pytest.MonkeyPatch, batch: int, pages: list[int]
) -> None:
    imported: list[int] = []
    importing: Callable[..., Any] = intake.import_batch

    def counted(context: Any, portion: Any, *given: Any, **options: Any) -> Any:
        imported.append(len(portion))
        return importing(context, portion, *given, **options)

    monkeypatch.setattr(intake, "import_batch", counted)
    monkeypatch.setattr(intake, "SOON", 2000)
    add_product(world.database, sku="A-1", stock_quantity=1000)
    world.full()
    for _ in range(3 * PER_PAGE):
        world.place(("A-1", 1))
    world.changes["orders_batch"] = batch
    world.import_orders()
    assert imported == [count * PER_PAGE for count in pages]
