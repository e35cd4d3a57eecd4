"""Settling conflicts where several people, or processes, do it at once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.store.stock.ledger import unexplained_stock
from midas_pipelines.sync.reconcile.conflicts import NoSuchConflict, resolve
from midas_pipelines_tests.shop import add_product, value
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

PEOPLE = 4


@pytest.mark.parametrize("field", ["quantity", "price"])
def test_one_of_many_people_settles_a_conflict_and_the_others_are_told(world: World, field: str) -> None:
    add_product(world.database, sku="A-1", stock_quantity=5)
    world.full()
    with world.database.writing() as connection:
        values = {
            "mapping_id": connection.scalar(sa.select(mappings.c.id)),
            "subject": "item:1",
            "field": field,
            "policy": "manual",
            "delta": -2,
        }
        statement = sa.insert(sync_conflicts).values(values).returning(sync_conflicts.c.id)
        number = connection.execute(statement).scalar_one()
    together = Barrier(PEOPLE, timeout=30)

    def settle(person: int) -> bool:
        context = world.sync_context()
        together.wait()
        try:
            asyncio.run(resolve(context, number, "marketplace", f"person {person}"))
        except NoSuchConflict:
            return False
        return True

    with ThreadPoolExecutor(PEOPLE) as people:
        assert sorted(people.map(settle, range(PEOPLE))) == [False, False, False, True]
    assert unexplained_stock(world.database) == []
    left = value(world.database, "SELECT stock_quantity FROM products")
    assert left == (3 if field == "quantity" else 5)
