"""A made-up phone-repair shop, for the demo, development and tests: same seed, same shop."""

from __future__ import annotations

import random
import re
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.catalog import has_product_status
from midas_pipelines.storefront.schema import (
    categories,
    missing_tables,
    product_images,
    product_variants,
    products,
    shop,
)
from midas_pipelines.storefront.writing import by_column, insert_columns

CATALOGUE_SIZE = 556
"""Items midastechnical.com sells, and so the size of the sample shop."""

MODELS = {
    "Apple": ("iPhone 11", "iPhone 12", "iPhone 12 Pro", "iPhone 13", "iPhone 14 Pro Max", "iPad Air 4"),
    "Samsung": ("Galaxy S20 FE", "Galaxy S21", "Galaxy S22 Ultra", "Galaxy A13", "Galaxy Note 20"),
    "LG": ("K40", "K51", "Q60", "Q70", "Stylo 5", "Stylo 6", "V60 ThinQ"),
    "Motorola": ("Moto G7", "Moto G Power", "Moto G Stylus", "Edge 20", "One 5G Ace"),
    "Google": ("Pixel 4a", "Pixel 5", "Pixel 6", "Pixel 6 Pro", "Pixel 7"),
}
PARTS = {
    "Screens": (("LCD Assembly With Frame", 18, 140), ("OLED Assembly", 45, 260), ("Front Glass", 3, 14)),
    "Batteries": (("Battery", 7, 32), ("Battery Adhesive Strip", 1, 4)),
    "Flex Cables": (("Charging Port Flex Cable", 2, 19), ("Power Button Flex Cable", 1, 9)),
    "Cameras": (("Back Camera", 6, 75), ("Front Camera", 4, 42), ("Back Camera Lens", 1, 8)),
    "Housings": (("Back Cover", 4, 38), ("Middle Frame", 9, 55), ("SIM Card Tray", 1, 5)),
    "Small Parts": (("Earpiece Speaker", 1, 12), ("Loudspeaker", 2, 14), ("Vibration Motor", 1, 9)),
}
COLOURS = ("Black", "White", "Blue", "Green")


def create_shop_tables(connection: sa.Connection) -> bool:
    """Creates the shop's tables where they are missing; True when it did."""
    missing = bool(missing_tables(connection))
    shop.create_all(connection)
    return missing


def seed_shop(connection: sa.Connection, *, items: int, seed: int = 1) -> int:
    """Fills the shop with `items` sellable items, variants counted one by one; returns how many it added. Existing rows stay;
    running it again with the same seed adds nothing."""
    chance, prefix = random.Random(seed), f"MD{seed}"
    if connection.scalar(sa.select(sa.func.count()).where(products.c.sku.startswith(f"{prefix}-"))):
        return 0
    known: dict[str, int] = {row.name: row.id for row in connection.execute(sa.select(categories))}
    for name in [name for name in PARTS if name not in known]:
        row = {"name": name, "slug": _slug(name)}
        made = connection.execute(sa.insert(categories).values(row).returning(categories.c.id))
        known[name] = made.scalar_one()
    status = {"status": "active"} if has_product_status(connection) else {}
    images, variants = list[dict[str, Any]](), list[dict[str, Any]]()
    added = number = 0
    while added < items:
        number += 1
        with_variants = items - added >= len(COLOURS) and number % 28 == 0
        category, values = _product(chance, f"{prefix}-{number:05d}", with_variants)
        values |= {"category_id": known[category]} | status
        product = connection.execute(sa.insert(products).values(values).returning(products.c.id)).scalar_one()
        images.append({"product_id": product, "image_url": values["image_url"], "is_primary": True})
        if with_variants:
            for colour in COLOURS:
                variant = {"product_id": product, "variant_type": "Color", "variant_value": colour}
                variant["price_adjustment"] = Decimal(chance.choice((0, 0, 150, 300))) / 100
                variant["stock_quantity"] = chance.randint(2, 60)
                variants.append(variant | {"sku": f"{values['sku']}-{colour[:3].upper()}"})
        added += len(COLOURS) if with_variants else 1
    insert_columns(connection, product_images, by_column(images))
    insert_columns(connection, product_variants, by_column(variants))
    return added


def _product(chance: random.Random, sku: str, with_variants: bool) -> tuple[str, dict[str, Any]]:
    """A product and its category."""
    brand = chance.choice(list(MODELS))
    category = "Housings" if with_variants else chance.choice(list(PARTS))
    part, low, high = chance.choice(PARTS[category])
    name = f"{part} Compatible For {brand} {chance.choice(MODELS[brand])}"
    return category, {
        "name": name,
        "slug": f"{_slug(name)}-{sku.lower()}",
        "sku": sku,
        "description": f"{name}. Tested before shipping, with a 90-day warranty.",
        "price": Decimal(chance.randint(low * 100, high * 100)) / 100,
        "discount_percentage": Decimal(chance.choice((0, 0, 0, 5, 10, 15))) or None,
        "stock_quantity": 0 if with_variants else chance.randint(3, 120),
        "image_url": f"https://shop.example.com/images/{sku.lower()}.jpg",
        "weight": Decimal(chance.randint(1, 40)) / 100,
        "dimensions": f"{chance.randint(5, 20)}x{chance.randint(3, 12)}x2 cm",
        "brand": brand,
    }


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
