"""Sellable items of the shop: a product without variants, or a variant; reading them, and locking their stock."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.storefront.schema import categories, product_images, product_variants, products
from midas_pipelines.storefront.types import to_cents
from midas_pipelines.storefront.writing import any_of, lock, update_rows

LARGEST_STOCK = 2**31 - 1
"""The largest value of the shop's INTEGER column and of the contract's quantity."""

OF_PRODUCT = ("name", "description", "price", "discount_percentage", "image_url", "weight", "dimensions")
ItemKey = tuple[int, int | None]
"""(product_id, variant_id); variant_id is None for a product sold without variants."""


def alert_subject(product_id: int, variant_id: int | None) -> str:
    """How alerts name an item."""
    return f"item:{product_id}:{variant_id or 0}"


STOCK = sa.union_all(
    sa.select(
        products.c.id.label("product_id"),
        sa.cast(sa.null(), sa.Integer).label("variant_id"),
        sa.literal(0).label("key"),
        products.c.sku,
        products.c.stock_quantity.label("on_hand"),
        sa.exists().where(product_variants.c.product_id == products.c.id).label("by_variant"),
    ),
    sa.select(
        product_variants.c.product_id,
        product_variants.c.id,
        product_variants.c.id,
        product_variants.c.sku,
        product_variants.c.stock_quantity,
        sa.false(),
    ).where(product_variants.c.product_id.is_not(None)),
).subquery("stock")
"""Every quantity that the shop keeps, that of a product sold by variant too."""


@dataclass(frozen=True, slots=True)
class ShopItem:
    """One item as the shop's tables have it now; `price` is what the shop sells it for, in US dollars."""

    product_id: int
    variant_id: int | None
    sku: str | None
    name: str
    option: str | None  # "Color: Black" for a variant
    description: str | None
    price: Decimal
    on_hand: int
    category: str | None
    brand: str | None
    weight: Decimal | None
    dimensions: str | None
    images: tuple[str, ...]
    active: bool
    category_id: int | None = None
    stock_odd: bool = False  # the column holds no whole number that a channel could show; SQLite lets it

    @property
    def key(self) -> ItemKey:
        return (self.product_id, self.variant_id)


def selling_price(price: Decimal, adjustment: Decimal | None, discount_percentage: Decimal | None) -> Decimal:
    """(price + adjustment) less the discount, half-up to cents, as the shop has it. A price that is no number counts as 0."""
    full = price + (adjustment or Decimal(0))
    amount = full * (1 - (discount_percentage or Decimal(0)) / 100)
    return to_cents(amount) if amount.is_finite() else Decimal("0.00")


def read_items(connection: sa.Connection, keys: Sequence[ItemKey]) -> dict[ItemKey, ShopItem]:
    """The sellable items among `keys`, of any number; one that is gone, or is sold by variant, is not in the answer."""
    product, variant, query = products.c, product_variants.c, _query(has_product_status(connection))
    rows: list[sa.Row[Any]] = []
    if product_ids := {product_id for product_id, variant_id in keys if variant_id is None}:
        rows += connection.execute(
            query.where(any_of(connection, product.id, product_ids), variant.id.is_(None))
        )
    if variant_ids := {variant_id for _, variant_id in keys if variant_id is not None}:
        rows += connection.execute(query.where(any_of(connection, variant.id, variant_ids)))
    images = _images(connection, {row.product_id for row in rows})
    return {(row.product_id, row.variant_id): _item(row, images.get(row.product_id, ())) for row in rows}


@cache
def _query(has_status: bool) -> sa.Select[Any]:
    """Products, each beside each of its variants, if any."""
    product, variant = products.c, product_variants.c
    return sa.select(
        product.id.label("product_id"),
        variant.id.label("variant_id"),
        _own(product.sku, variant.sku),
        _own(product.stock_quantity, variant.stock_quantity),
        variant.price_adjustment,
        variant.variant_type,
        variant.variant_value,
        *(product[name] for name in OF_PRODUCT),
        product.brand,
        product.category_id,
        categories.c.name.label("category"),
        (product.status if has_status else sa.literal("active")).label("status"),
    ).select_from(
        products.outerjoin(product_variants, variant.product_id == product.id).outerjoin(
            categories, categories.c.id == product.category_id
        )
    )


def _own(of_product: sa.Column[Any], of_variant: sa.Column[Any]) -> sa.ColumnElement[Any]:
    return sa.case((product_variants.c.id.is_(None), of_product), else_=of_variant).label(of_product.name)


def _images(connection: sa.Connection, product_ids: set[int]) -> dict[int, tuple[str, ...]]:
    if not product_ids:
        return {}
    image = product_images.c
    first = sa.func.coalesce(image.is_primary, sa.false()).desc()
    query = sa.select(image.product_id, image.image_url).where(
        any_of(connection, image.product_id, product_ids)
    )
    images: dict[int, tuple[str, ...]] = {}
    for product_id, url in connection.execute(
        query.order_by(first, sa.func.coalesce(image.display_order, 0), image.id)
    ):
        if url:
            images[product_id] = (*images.get(product_id, ()), url)
    return images


def _text(value: object) -> str:
    """A cell as text: SQLite keeps whatever was written, bytes and numbers too."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _item(row: sa.Row[tuple[object, ...]], images: tuple[str, ...]) -> ShopItem:
    option = f"{row.variant_type}: {row.variant_value}" if row.variant_id is not None else None
    whole = isinstance(row.stock_quantity, int) and abs(row.stock_quantity) <= LARGEST_STOCK
    return ShopItem(
        product_id=row.product_id,
        variant_id=row.variant_id,
        sku=_text(row.sku).strip() or None,
        name=_text(row.name),
        option=option,
        description=_text(row.description) or None,
        price=selling_price(row.price, row.price_adjustment, row.discount_percentage),
        on_hand=row.stock_quantity if whole else 0,
        stock_odd=not whole,
        category=row.category,
        brand=row.brand,
        weight=row.weight if row.weight is not None and row.weight.is_finite() else None,
        dimensions=row.dimensions,
        images=images or ((row.image_url,) if row.image_url else ()),
        active=row.status == "active",
        category_id=row.category_id,
    )


def items_by_sku(connection: sa.Connection, skus: Collection[str]) -> dict[str, ItemKey]:
    """The items with these SKUs; a product with variants is not an item, so its own SKU finds nothing."""
    found = _sellable(connection, STOCK.c.sku, skus)
    return {row.sku: (row.product_id, row.variant_id) for row in found}


class UnknownSku(WrongInput):
    """A SKU was asked for that no item of the shop has."""

    http_status = 404

    def __init__(self, *skus: str) -> None:
        super().__init__(f"No item of the shop has the SKU {', '.join(skus)}: check the spelling.")


def find_item(connection: sa.Connection, sku: str) -> ItemKey:
    """The item with this SKU. Raises UnknownSku."""
    if (found := items_by_sku(connection, [sku]).get(sku)) is None:
        raise UnknownSku(sku)
    return found


def present_items(connection: sa.Connection, keys: Collection[ItemKey]) -> set[ItemKey]:
    """The keys of items that still exist in the shop, archived or not."""
    found = _sellable(connection, STOCK.c.product_id, {product_id for product_id, _ in keys})
    return {(row.product_id, row.variant_id) for row in found} & set(keys)


def _sellable(
    connection: sa.Connection, column: sa.ColumnElement[Any], values: Collection[Any]
) -> Sequence[sa.Row[Any]]:
    """The items with these values, those of products without variants last."""
    query = sa.select(STOCK).where(any_of(connection, column, values), ~STOCK.c.by_variant)
    return connection.execute(query.order_by(STOCK.c.key.desc())).all() if values else []


def lock_stock(connection: sa.Connection, keys: Collection[ItemKey]) -> dict[ItemKey, int]:
    """The stock on hand of these items, locked until the transaction ends; items that are gone are left out. Raises RowsBusy.

    Locked as an UPDATE would (FOR NO KEY UPDATE): two sales of one item may both have written their order lines,
    which hold the item's key, and must not wait for one another.
    """
    columns = product_variants.c
    plain = sa.select(products.c.id, products.c.stock_quantity)
    of_variants = sa.select(columns.id, columns.product_id, columns.stock_quantity)
    product_ids = {product for product, variant in keys if variant is None}
    found: dict[ItemKey, int] = {}
    for row in lock(connection, plain, products.c.id, product_ids):
        found[(row.id, None)] = row.stock_quantity
    for row in lock(
        connection, of_variants, columns.id, {variant for _, variant in keys if variant is not None}
    ):
        found[(row.product_id, row.id)] = row.stock_quantity
    return found


def set_stock(connection: sa.Connection, quantities: Mapping[ItemKey, int]) -> int:
    """Sets the stock on hand of items that `lock_stock` has locked; their ledger rows must be written before. Returns how
    many rows were changed: a trigger of the shop's may skip one."""
    plain = [{"id": p, "stock_quantity": q} for (p, v), q in quantities.items() if v is None]
    variants = [{"id": v, "stock_quantity": q} for (_, v), q in quantities.items() if v is not None]
    return update_rows(connection, products, plain) + update_rows(connection, product_variants, variants)


def has_product_status(connection: sa.Connection) -> bool:
    """Whether `products.status` exists; where it does not, every product counts as active."""
    # Asked for every batch: the catalogue's own table answers in a tenth of the time of an inspection.
    if connection.dialect.name == "postgresql":
        query = (
            "SELECT count(*) FROM pg_attribute "
            "WHERE attrelid = 'products'::regclass AND attname = 'status' AND NOT attisdropped"
        )
    else:
        query = "SELECT count(*) FROM pragma_table_info('products') WHERE name = 'status'"
    return bool(connection.exec_driver_sql(query).scalar())
