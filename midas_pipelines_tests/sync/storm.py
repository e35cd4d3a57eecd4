"""One process of a storm on the stock: shop sales, restocks, imports, cancellations, operators' moves and pushes, mixed.

It says what it did to each product, so that the test can add up what the stock must be without asking the ledger.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime
from multiprocessing import SimpleQueue

import sqlalchemy as sa

from midas_pipelines.fourseller.models import read_order
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.importer import import_sales
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.sale import read_sale
from midas_pipelines.sync.product_sync import push_inventory
from midas_pipelines_tests.copies import PATIENT
from midas_pipelines_tests.vaults import VAULT

ORDERS = 200
"""Ids that orders are drawn from: few enough that processes meet on the same one."""

ACTIONS = {"sell": 40, "restock": 15, "order": 25, "cancel": 10, "move": 9, "push": 1}


class Storm:
    """One process's part in it."""

    def __init__(self, database: Database, context: SyncContext, seed: int) -> None:
        self.database, self.context = database, context
        self.random = random.Random(seed)
        self.seed = seed
        self.net: Counter[int] = Counter()  # units by product id, orders left out
        self.vault = VAULT
        with database.reading() as connection:
            self.items = [tuple(row) for row in connection.execute(sa.text("SELECT id, sku FROM products"))]

    def act(self, number: int) -> None:
        """One operation, drawn by its share."""
        name = self.random.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        getattr(self, name)(number)

    def sell(self, _: int) -> None:
        """The shop's own code sells, as such code is written: several items in one transaction, by id."""
        chosen = sorted(self.random.sample(self.items, self.random.randint(1, 3)))
        statement = sa.text(
            "UPDATE products SET stock_quantity = stock_quantity - 1 WHERE id = :id AND stock_quantity > 0"
        )
        with self.database.writing() as connection:
            sold = {product: connection.execute(statement, {"id": product}).rowcount for product, _ in chosen}
        self.net.subtract(sold)

    def restock(self, _: int) -> None:
        """The shop's own code puts units back."""
        product, _sku = self.random.choice(self.items)
        statement = sa.text("UPDATE products SET stock_quantity = stock_quantity + 3 WHERE id = :id")
        with self.database.writing() as connection:
            connection.execute(statement, {"id": product})
        self.net[product] += 3

    def order(self, _: int) -> None:
        """A marketplace order arrives, perhaps not for the first time."""
        self._deliver("processing")

    def cancel(self, _: int) -> None:
        """A cancellation arrives, perhaps before its order, perhaps twice."""
        self._deliver("cancelled")

    def move(self, number: int) -> None:
        """An operator corrects a count."""
        product, _sku = self.random.choice(self.items)
        move = StockMove(
            (product, None), self.random.choice([-2, 2]), "operator", "counted", f"{self.seed}-{number}"
        )
        with self.database.writing() as connection:
            (moved,) = move_stock(connection, [move])
        self.net[product] += moved

    def push(self, _: int) -> None:
        """A push of what is dirty."""
        asyncio.run(push_inventory(self.context))

    def _deliver(self, status: str) -> None:
        number = self.random.randrange(ORDERS)
        lines = random.Random(number).sample(self.items, 2)  # the same order has the same lines
        at = datetime.now(UTC).isoformat()
        order = {
            "id": f"storm-{number}",
            "status": status,
            "created_at": at,
            "updated_at": at,
            "items": [{"sku": sku, "quantity": 2, "price": "10.00"} for _, sku in lines],
        }
        import_sales(self.database, [read_sale(read_order(order))], OrderContext(vault=self.vault))


def take_part(given: dict[str, object], seed: int, operations: int, said: SimpleQueue[Counter[int]]) -> None:
    """One process of the storm; puts what it did to each product into `said`."""
    settings = Settings.model_validate(given)
    with Database(settings.database(), PATIENT) as database:
        storm = Storm(database, SyncContext(settings, database), seed)
        for number in range(operations):
            storm.act(number)
    said.put(storm.net)
