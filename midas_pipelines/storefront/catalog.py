"""Reading sellable items from the shop: a product without variants, or a variant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.bulk import any_of
from midas_pipelines.storefront.schema import categories, product_images, product_variants, products
from midas_pipelines.storefront.types import Money, to_cents

LARGEST_STOCK = 2**31 - 1
"""The largest value of the shop's INTEGER column and of the contract's quantity."""

ItemKey = tuple[int, int | None]
"""(product_id, variant_id); variant_id is None for a product sold without variants."""


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
    """(price + adjustment) less the discount, half-up to cents: the rule in the shop's own schema.

    A price that is no number, which both databases can hold, counts as 0.
    """
    full = price + (adjustment or Decimal(0))
    amount = full * (1 - (discount_percentage or Decimal(0)) / 100)
    return to_cents(amount) if amount.is_finite() else Decimal("0.00")


def read_items(
    connection: sa.Connection, keys: Sequence[ItemKey], *, has_status: bool
) -> dict[ItemKey, ShopItem]:
    """The sellable items among `keys`; one that is gone, or is sold by variant, is not in the answer.

    Args:
        keys: any number; they go to the database as two lists of ids.
        has_status: whether `products.status` exists (`schema.has_product_status`).
    """
    product_ids = {product for product, variant in keys if variant is None}
    variant_ids = {variant for _, variant in keys if variant is not None}
    rows: list[sa.Row[tuple[object, ...]]] = []
    if product_ids:
        rows += connection.execute(_products_query(has_status).where(products.c.id.in_(product_ids))).all()
    if variant_ids:
        rows += connection.execute(
            _variants_query(has_status).where(product_variants.c.id.in_(variant_ids))
        ).all()
    images = _images(connection, {row.product_id for row in rows})
    return {(row.product_id, row.variant_id): _item(row, images.get(row.product_id, ())) for row in rows}


def _product_columns(has_status: bool) -> list[sa.ColumnElement[Any]]:
    return [
        products.c.name,
        products.c.description,
        products.c.price,
        products.c.discount_percentage,
        products.c.image_url,
        products.c.weight,
        products.c.dimensions,
        products.c.brand,
        categories.c.name.label("category"),
        products.c.category_id,
        (products.c.status if has_status else sa.literal("active")).label("status"),
    ]


def _products_query(has_status: bool) -> sa.Select[tuple[object, ...]]:
    return (
        sa.select(
            products.c.id.label("product_id"),
            sa.cast(sa.null(), sa.Integer).label("variant_id"),
            products.c.sku,
            products.c.stock_quantity.label("on_hand"),
            sa.cast(sa.null(), Money).label("price_adjustment"),
            sa.null().label("variant_type"),
            sa.null().label("variant_value"),
            *_product_columns(has_status),
        )
        .select_from(products.outerjoin(categories, categories.c.id == products.c.category_id))
        .where(~sa.exists().where(product_variants.c.product_id == products.c.id))
    )


def _variants_query(has_status: bool) -> sa.Select[tuple[object, ...]]:
    return sa.select(
        products.c.id.label("product_id"),
        product_variants.c.id.label("variant_id"),
        product_variants.c.sku,
        product_variants.c.stock_quantity.label("on_hand"),
        product_variants.c.price_adjustment,
        product_variants.c.variant_type,
        product_variants.c.variant_value,
        *_product_columns(has_status),
    ).select_from(
        product_variants.join(products, products.c.id == product_variants.c.product_id).outerjoin(
            categories, categories.c.id == products.c.category_id
        )
    )


def _images(connection: sa.Connection, product_ids: set[int]) -> dict[int, tuple[str, ...]]:
    if not product_ids:
        return {}
    query = (
        sa.select(product_images.c.product_id, product_images.c.image_url)
        .where(product_images.c.product_id.in_(product_ids))
        .order_by(
            product_images.c.product_id,
            sa.func.coalesce(product_images.c.is_primary, sa.false()).desc(),
            sa.func.coalesce(product_images.c.display_order, 0),
            product_images.c.id,
        )
    )
    images: dict[int, tuple[str, ...]] = {}
    for product_id, url in connection.execute(query):
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
    whole = isinstance(row.on_hand, int) and abs(row.on_hand) <= LARGEST_STOCK
    return ShopItem(
        product_id=row.product_id,
        variant_id=row.variant_id,
        sku=_text(row.sku).strip() or None,
        name=_text(row.name),
        option=option,
        description=_text(row.description) or None,
        price=selling_price(row.price, row.price_adjustment, row.discount_percentage),
        on_hand=row.on_hand if whole else 0,
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
    if not skus:
        return {}
    has_variants = sa.exists().where(product_variants.c.product_id == products.c.id)
    plain = sa.select(products.c.sku, products.c.id).where(
        any_of(connection, products.c.sku, skus), ~has_variants
    )
    found: dict[str, ItemKey] = {row.sku: (row.id, None) for row in connection.execute(plain)}
    columns = product_variants.c
    by_variant = sa.select(columns.sku, columns.product_id, columns.id).where(
        any_of(connection, columns.sku, skus), columns.product_id.is_not(None)
    )
    for row in connection.execute(by_variant):
        found.setdefault(row.sku, (row.product_id, row.id))
    return found


def present_items(connection: sa.Connection, keys: Collection[ItemKey]) -> set[ItemKey]:
    """The keys of items that still exist in the shop, archived or not."""
    product_ids = {product for product, variant in keys if variant is None}
    variant_ids = {variant for _, variant in keys if variant is not None}
    columns = product_variants.c
    found: set[ItemKey] = set()
    if product_ids:
        has_variants = sa.exists().where(columns.product_id == products.c.id)
        plain = sa.select(products.c.id).where(any_of(connection, products.c.id, product_ids), ~has_variants)
        found |= {(product, None) for product in connection.scalars(plain)}
    if variant_ids:
        by_variant = sa.select(columns.product_id, columns.id).where(
            any_of(connection, columns.id, variant_ids)
        )
        found |= {(row.product_id, row.id) for row in connection.execute(by_variant)}
    return found & set(keys)
