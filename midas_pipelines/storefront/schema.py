"""The shop's tables, as midastechnical.com runs them, for both databases. Only `sample.py` creates them: a shop has them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from midas_pipelines.storefront.types import Json, Money, UtcDateTime, utc_now

shop = sa.MetaData()


def _moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, UtcDateTime(), server_default=utc_now())


def _table(name: str, *columns: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(name, shop, sa.Column("id", sa.Integer, primary_key=True), *columns)


categories = _table(
    "categories",
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("slug", sa.String(100), nullable=False, unique=True),
    sa.Column("description", sa.Text),
    sa.Column("parent_id", sa.ForeignKey("categories.id")),
    _moment("created_at"),
    _moment("updated_at"),
)

products = _table(
    "products",
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("slug", sa.String(255), nullable=False, unique=True),
    sa.Column("sku", sa.String(50), unique=True),
    sa.Column("description", sa.Text),
    sa.Column("price", Money, nullable=False),
    sa.Column("discount_percentage", Money),
    sa.Column("stock_quantity", sa.Integer, nullable=False, server_default="0"),
    sa.Column("is_featured", sa.Boolean, server_default=sa.false()),
    sa.Column("is_new", sa.Boolean, server_default=sa.false()),
    sa.Column("image_url", sa.String(255)),
    sa.Column("weight", Money),
    sa.Column("dimensions", sa.String(50)),
    sa.Column("category_id", sa.ForeignKey("categories.id")),
    sa.Column("brand", sa.String(100)),
    sa.Column("status", sa.String(20), nullable=False, server_default="active"),
    _moment("created_at"),
    _moment("updated_at"),
)

product_images = _table(
    "product_images",
    sa.Column("product_id", sa.ForeignKey("products.id", ondelete="CASCADE")),
    sa.Column("image_url", sa.String(255), nullable=False),
    sa.Column("is_primary", sa.Boolean, server_default=sa.false()),
    sa.Column("display_order", sa.Integer, server_default="0"),
)

product_variants = _table(
    "product_variants",
    sa.Column("product_id", sa.ForeignKey("products.id", ondelete="CASCADE")),
    sa.Column("variant_type", sa.String(50), nullable=False),
    sa.Column("variant_value", sa.String(50), nullable=False),
    sa.Column("price_adjustment", Money, server_default="0.00"),
    sa.Column("stock_quantity", sa.Integer, nullable=False, server_default="0"),
    sa.Column("sku", sa.String(50), unique=True),
)

orders = _table(
    "orders",
    sa.Column("user_id", sa.Integer),
    sa.Column("order_number", sa.String(50), nullable=False, unique=True),
    sa.Column("status", sa.String(20), nullable=False, server_default="pending"),
    sa.Column("total_amount", Money, nullable=False),
    sa.Column("shipping_address", Json, nullable=False),
    sa.Column("billing_address", Json, nullable=False),
    sa.Column("payment_method", Json),
    sa.Column("payment_status", sa.String(50), nullable=False, server_default="pending"),
    sa.Column("shipping_method", sa.String(50)),
    sa.Column("shipping_cost", Money, server_default="0.00"),
    sa.Column("notes", sa.Text),
    _moment("created_at"),
    _moment("updated_at"),
)

order_items = _table(
    "order_items",
    sa.Column("order_id", sa.ForeignKey("orders.id", ondelete="CASCADE"), nullable=False),
    sa.Column("product_id", sa.ForeignKey("products.id", ondelete="SET NULL")),
    sa.Column("variant_id", sa.ForeignKey("product_variants.id", ondelete="SET NULL")),
    sa.Column("product_name", sa.String(255), nullable=False),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("price", Money, nullable=False),
    sa.Column("total_price", Money, nullable=False),
    _moment("created_at"),
)

order_status_history = _table(
    "order_status_history",
    sa.Column("order_id", sa.ForeignKey("orders.id", ondelete="CASCADE"), nullable=False),
    sa.Column("status", sa.String(50), nullable=False),
    sa.Column("notes", sa.Text),
    _moment("created_at"),
)

NEEDED = tuple(shop.tables)
"""The tables without which the integration cannot work."""
RIGHTS = {
    products.name: "SELECT, UPDATE (stock_quantity)",
    product_variants.name: "SELECT, UPDATE (stock_quantity)",
    orders.name: "SELECT, INSERT, UPDATE",
    order_items.name: "SELECT, INSERT, UPDATE, DELETE",
    order_status_history.name: "SELECT, INSERT, UPDATE",
}
"""What our user must be allowed to do with the tables that are written, as GRANT says it; the others are only read."""


def missing_tables(connection: sa.Connection) -> list[str]:
    """The names of the shop's tables that this database does not have."""
    present = set(sa.inspect(connection).get_table_names())
    return [name for name in NEEDED if name not in present]
