"""Removes products from 4Seller; one that is still shown after its deletion is set to quantity 0."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import Ambiguous, BadItem, Conflict, NotFound


async def remove(client: FourSeller, product_id: str) -> None:
    """Deletes a product and checks that it is gone; one that stays is set to quantity 0.

    Raises:
        Conflict: 4Seller has it still; its quantity is 0.
        FourSellerError: a call failed.
    """
    why = "it answered well"
    try:
        await client.delete_product(product_id)
        await client.product(product_id)
    except NotFound:
        return
    except (Ambiguous, BadItem, Conflict) as refused:
        why = str(refused)
    with suppress(NotFound):
        left = await client.set_quantity(product_id, 0, datetime.now(UTC))
        raise Conflict(
            f"4Seller still has product {product_id} after its deletion ({why}). Its quantity was set to {left.quantity}, "
            "and the deletion is tried again.",
            item=product_id,
            status=409,
        )
