"""`midas orders`: show marketplace orders, ship and hold them, and resolve exceptions."""

from __future__ import annotations

from midas_pipelines.cli.orders import changing
from midas_pipelines.cli.orders.reading import orders

__all__ = ["changing", "orders"]
