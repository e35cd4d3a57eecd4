"""`midas orders`: show marketplace orders, ship them, and resolve exceptions."""

from __future__ import annotations

from midas_pipelines.cli.orders import handling, looking, settling
from midas_pipelines.cli.orders.group import orders

__all__ = ["handling", "looking", "orders", "settling"]
