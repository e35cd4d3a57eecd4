"""A shop, a 4Seller and the engine between them, and an oracle that knows nothing of the engine."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.sandbox.app import Sandbox
from midas_pipelines.sandbox.state import Json, Refused
from midas_pipelines.settings import Settings, load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.catalog import has_product_status
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.pages import OrderReport
from midas_pipelines.sync.orders.intake.poll import POLL, Window, import_orders
from midas_pipelines.sync.product_sync import (
    InventoryReport,
    Mode,
    ProductReport,
    push_inventory,
    sync_products,
)
from midas_pipelines_tests.sandbox_thread import SandboxThread
from midas_pipelines_tests.shop import rows, run
from midas_pipelines_tests.vaults import PAYLOAD_KEY

WRITES = ("POST", "PUT", "PATCH", "DELETE")
Shown = tuple[str, Decimal, int]
"""What a buyer sees of an item: title, price, quantity."""


@dataclass
class World:
    """Both sides of a sync; the sandbox is the one of the session, emptied."""

    database: Database
    background: SandboxThread
    changes: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)  # SKU -> the status that every write of it meets

    @property
    def sandbox(self) -> Sandbox:
        """The running application."""
        return self.background.app

    @property
    def settings(self) -> Settings:
        """The settings of the engine, with the test's own changes."""
        given: dict[str, Any] = {
            "database_url": self.database.engine.url.render_as_string(hide_password=False),
            "fourseller_api_url": self.background.url,
            "fourseller_api_key": self.background.config.api_key,
            "fourseller_seller_id": self.background.config.seller_id,
            "in_flight": 8,
            "list_lag_seconds": 0,
            "payload_key": PAYLOAD_KEY,
        }
        return _settings(given | self.changes)

    def sync_context(self, **changes: Any) -> SyncContext:
        """A worker of its own name."""
        self.changes |= changes
        return SyncContext(self.settings, self.database)

    # acting

    def full(self, **options: Any) -> ProductReport:
        """A full sync."""
        return asyncio.run(sync_products(self.sync_context(), Mode.FULL, **options))

    def incremental(self, **options: Any) -> ProductReport:
        """An incremental sync."""
        return asyncio.run(sync_products(self.sync_context(), **options))

    def inventory(self, **options: Any) -> InventoryReport:
        """An inventory push."""
        return asyncio.run(push_inventory(self.sync_context(), **options))

    def import_orders(self, window: Window = POLL) -> OrderReport:
        """An order import."""
        return asyncio.run(import_orders(self.sync_context(), window))

    def set(self, product_id: int, **columns: Any) -> None:
        """Changes a product as the shop's code would."""
        with self.database.writing() as connection:
            connection.execute(sa.update(products).where(products.c.id == product_id).values(columns))

    def set_variant(self, variant_id: int, **columns: Any) -> None:
        """Changes a variant as the shop's code would."""
        with self.database.writing() as connection:
            connection.execute(
                sa.update(product_variants).where(product_variants.c.id == variant_id).values(columns)
            )

    def remove(self, product_id: int) -> None:
        """Deletes a product from the shop."""
        run(self.database, "DELETE FROM products WHERE id = :id", id=product_id)

    def faults(self, **shares: float) -> None:
        """Sets the share of calls by kind; underscores stand for hyphens, and `s500` for 500."""
        self.sandbox.faults.set(
            {name.replace("_", "-").removeprefix("s"): share for name, share in shares.items()}
        )

    def habits(self, *names: str) -> None:
        """Has exactly these habits from now on, each as `NAME` or `NAME=N` (see `sandbox.habits`); none ends all."""
        self.sandbox.habits.set(*names)

    def place(self, *lines: tuple[str | None, int], **fields: Any) -> str:
        """An order at the sandbox for so many of each SKU at 10.00, or with these `items`; returns its id."""
        items = [{"sku": sku, "quantity": quantity, "price": "10.00"} for sku, quantity in lines]
        unreadable = fields.pop("items", None)
        order = {**self.sandbox.shoppers.order(items), **fields}
        order_id: str = self.sandbox.state.place(order)["id"]
        if unreadable is not None:
            self.sandbox.state.orders[order_id]["items"] = unreadable
        return order_id

    # looking

    def calls(self, act: Callable[[], object] | None = None) -> Counter[str]:
        """The calls by method since the last look, or those that `act` makes."""
        if act is not None:
            self.sandbox.calls.clear()
            act()
        counted: Counter[str] = Counter()
        for (method, _), number in self.sandbox.calls.counts.items():
            counted[method] += number
        self.sandbox.calls.clear()
        return counted

    def writes(self, act: Callable[[], object] | None = None) -> int:
        """How many of those calls were writes."""
        counted = self.calls(act)
        return sum(counted[method] for method in WRITES)

    @property
    def listed(self) -> dict[str, Json]:
        """Every product of the sandbox by SKU; fails when two share one."""
        found = list(self.sandbox.state.products.values())
        by_sku = {str(product["sku"]): product for product in found}
        assert len(by_sku) == len(found), f"duplicate SKUs: {sorted(str(one['sku']) for one in found)}"
        return by_sku

    @property
    def shown(self) -> dict[str, Shown]:
        """What buyers see, by SKU."""
        return {
            sku: (one["title"], Decimal(str(one["price"])), one["inventory"]["quantity"])
            for sku, one in self.listed.items()
        }

    @property
    def wanted(self) -> dict[str, Shown]:
        """What buyers should see, worked out from the shop's tables alone."""
        return {
            sku: (title, price, quantity)
            for _, sku, title, price, quantity in items_for_sale(self.database)
            if sku and title.strip() and len(title) <= 255 and price > 0
        }

    def mapping(self, product_id: int, variant_id: int | None = None) -> sa.Row[Any]:
        """The item's mapping row."""
        query = sa.select(mappings).where(mappings.c.product_id == product_id)
        match = mappings.c.variant_id.is_(None) if variant_id is None else mappings.c.variant_id == variant_id
        with self.database.reading() as connection:
            return connection.execute(query.where(match)).one()

    @property
    def dirty(self) -> int:
        """How many items wait to be pushed."""
        found: int = rows(
            self.database,
            "SELECT count(*) FROM fourseller_product_mappings WHERE dirty_since IS NOT NULL",
        )[0][0]
        return found

    def refuse(self, status: int, *skus: str) -> None:
        """From now on each write of these SKUs is answered with `status`."""
        self.refused |= dict.fromkeys(skus, status)

    def guard(self, sku: Any) -> None:
        """Raises what `refuse` has asked for."""
        if sku in self.refused:
            raise Refused(self.refused[sku], "refused_by_test", "The category is closed.")


_known_settings: list[tuple[dict[str, Any], Settings]] = []


def _settings(given: dict[str, Any]) -> Settings:
    """The settings of the environment and those given; made once for a row of tests, since to make them is slow."""
    environment = {
        name: text for name, text in os.environ.items() if name.startswith(("MIDAS_", "FOURSELLER_"))
    }
    for known, settings in _known_settings:
        if known == given | environment:
            return settings
    made = load_settings(**given)
    _known_settings[:] = [(given | environment, made), *_known_settings[:9]]
    return made


def items_for_sale(database: Database) -> list[tuple[tuple[int, int | None], str, str, Decimal, int]]:
    """(key, SKU, title, selling price, quantity) of each item that an active product sells."""
    with database.reading() as connection:
        columns = [c for c in products.c if c.name != "status" or has_product_status(connection)]
        parents = {row.id: row for row in connection.execute(sa.select(*columns).order_by(products.c.id))}
        variants = connection.execute(sa.select(product_variants).order_by(product_variants.c.id)).all()
    sold_by_variant = {row.product_id for row in variants}
    found = []
    for row in parents.values():
        if getattr(row, "status", "active") == "active" and row.id not in sold_by_variant:
            found.append(_item((row.id, None), row, row.sku, "", Decimal(0), row.stock_quantity))
    for row in variants:
        parent = parents.get(row.product_id)
        if parent is not None and getattr(parent, "status", "active") == "active":
            option = f" ({row.variant_type}: {row.variant_value})"
            extra = row.price_adjustment or Decimal(0)
            found.append(_item((parent.id, row.id), parent, row.sku, option, extra, row.stock_quantity))
    return found


def _item(
    key: tuple[int, int | None], row: Any, sku: str | None, option: str, extra: Decimal, stock: int
) -> tuple[tuple[int, int | None], str, str, Decimal, int]:
    off = (row.discount_percentage or Decimal(0)) / 100
    price = ((row.price + extra) * (1 - off)).quantize(Decimal("0.01"), ROUND_HALF_UP)
    name = " ".join(row.name.split())
    return key, (sku or "").strip(), name + option if name else "", price, max(0, stock)
