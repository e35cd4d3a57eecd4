"""What a restricted role on PostgreSQL needs to run everything but `midas db upgrade`, a restore and a drill. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from midas_pipelines.store.schema.gateway_tables import gateway_audit
from midas_pipelines.store.schema.tables import inventory_changes, order_processing_logs
from midas_pipelines.storefront.schema import (
    order_items,
    order_status_history,
    orders,
    product_variants,
    products,
)

READ = "SELECT"
KEEP = "SELECT, INSERT, UPDATE, DELETE"
SHOP = {
    products.name: "SELECT, UPDATE (stock_quantity)",
    product_variants.name: "SELECT, UPDATE (stock_quantity)",
    orders.name: "SELECT, INSERT, UPDATE",
    order_items.name: "SELECT, INSERT, UPDATE, DELETE",
    order_status_history.name: "SELECT, INSERT, UPDATE",
}
"""The shop's tables that are written; of its others only reading is asked for."""

APPENDED = {
    gateway_audit.name: "SELECT, INSERT, DELETE",  # a trigger keeps the rows of the last 365 days
    inventory_changes.name: "SELECT, INSERT",
    order_processing_logs.name: KEEP,  # a trigger keeps its rows but for erasing a buyer and for retention
}


def grants(role: str, schema: str, shop: Iterable[str], ours: Iterable[str]) -> list[str]:
    """The statements that the owner of the tables runs.

    Args:
        role: who gets the rights.
        schema: of the tables.
        shop, ours: the names of the shop's tables and of ours.
    """
    who, where = f'"{role}"', f'"{schema}"'
    rights = dict.fromkeys(shop, READ) | dict.fromkeys(ours, KEEP) | SHOP | APPENDED
    return [
        f"GRANT USAGE ON SCHEMA {where} TO {who}",
        *(f'GRANT {right} ON {where}."{table}" TO {who}' for table, right in rights.items()),
        f"GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA {where} TO {who}",
    ]
