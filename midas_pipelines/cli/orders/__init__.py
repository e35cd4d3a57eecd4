"""`midas orders`: show marketplace orders, ship and hold them, and resolve exceptions."""

from __future__ import annotations

from midas_pipelines.cli.orders import handling, holding, looking, settling
from midas_pipelines.cli.orders.group import orders

__all__ = ["handling", "holding", "looking", "orders", "settling"]
