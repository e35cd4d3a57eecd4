"""The conformance suite: what of the contract an account keeps, tried on one reserved SKU; orders are only read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from pydantic import SecretStr

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError, NotFound, NotSent
from midas_pipelines.fourseller.models import Inventory, Product, ProductDraft

RESERVED_SKU = "MIDAS-CONTRACT-TEST"
"""The one SKU that the suite makes, changes and deletes."""

LAG_SECONDS = 20.0
"""How long a list may lag behind a write before it counts as broken."""


@dataclass(frozen=True)
class Tried:
    """One promise of the contract: `kept` is None where it could not be tried."""

    promise: str
    kept: bool | None
    found: str


class Broken(Exception):
    """A promise is not kept; the text says what was found."""


async def run_conformance(client: FourSeller, *, base_url: str, seller_id: str) -> AsyncIterator[Tried]:
    """Tries each promise and cleans up. Sends writes for `RESERVED_SKU` alone, and none where the client may not write.

    `base_url` and `seller_id` are the account's, to try a wrong key.
    """
    suite = _Suite(client, base_url, seller_id)
    try:
        for promise, step in suite.steps().items():
            try:
                yield Tried(promise, True, await step())
            except NotSent as unsent:
                yield Tried(promise, None, str(unsent))
            except (Broken, FourSellerError) as failed:
                yield Tried(promise, False, str(failed))
    finally:
        await suite.clean_up()


class _Suite:
    """The steps, in order; those on the reserved SKU build on the ones before."""

    def __init__(self, client: FourSeller, base_url: str, seller_id: str) -> None:
        self._client, self._base_url, self._seller_id = client, base_url, seller_id
        self._id: str | None = None

    def steps(self) -> dict[str, Callable[[], Awaitable[str]]]:
        """Each promise with what tries it."""
        return {
            "A wrong key is refused": self._wrong_key,
            "Products are listed in pages": self._pages,
            "A product is created": self._create,
            "It is read by its id": self._read,
            "It is found by its SKU": lambda: self._soon(lambda: self._client.find_by_sku(RESERVED_SKU)),
            "Its quantity is set and read": self._set_quantity,
            "It is replaced": self._replace,
            "A list shows it": lambda: self._soon(self._listed),
            "It is deleted, and then 404": self._delete,
            "Orders are listed, and one is read by its id": self._orders,
            "An unknown order is 404": lambda: _unknown(self._client.order("midas-no-such-order")),
        }

    async def clean_up(self) -> None:
        """Deletes what is left of the reserved SKU."""
        with suppress(FourSellerError):
            for product in await self._client.find_by_sku(RESERVED_SKU):
                await self._client.delete_product(product.id)

    async def _wrong_key(self) -> str:
        key = SecretStr("midas-wrong-key")
        async with FourSeller(
            base_url=self._base_url, api_key=key, seller_id=self._seller_id, deadline_seconds=10
        ) as stranger:
            try:
                await stranger.product("1")
            except BadCredentials as refused:
                return f"It is answered {refused.status}."
            except FourSellerError as failed:
                raise Broken(f"It is not answered 401: {failed}") from None
        raise Broken("A wrong key is accepted.")

    async def _pages(self) -> str:
        listing = await self._client.listing()
        if not listing.complete:
            raise Broken(f"The list is not complete: {listing.reason}.")
        return f"{len(listing.products)} products."

    async def _orders(self) -> str:
        page = await anext(self._client.order_pages(), None)
        if page is None or not page.data:
            return "There is no order to read."
        one = await self._client.order(page.data[0].id)
        if one.id != page.data[0].id:
            raise Broken("Another order is answered than was asked for.")
        return f"{page.total} orders; one was read."

    @property
    def _key(self) -> str:
        if self._id is None:
            raise NotSent("It was not tried: the product could not be created.")
        return self._id

    async def _create(self) -> str:
        await self.clean_up()
        key = f"midas-contract-{int(datetime.now(UTC).timestamp())}"
        made = await self._client.create_product(FIRST, idempotency_key=key)
        self._id = made.id
        return _compared(made, FIRST)

    async def _read(self) -> str:
        return _compared(await self._client.product(self._key), FIRST)

    async def _set_quantity(self) -> str:
        await self._client.set_quantity(self._key, 3, datetime.now(UTC))
        shown = (await self._client.quantity(self._key)).quantity
        if shown != 3:
            raise Broken(f"The quantity is {shown} after it was set to 3.")
        return "It is 3, as set."

    async def _replace(self) -> str:
        draft = _draft("Contract test, changed", "2.25", 2)
        await self._client.update_product(self._key, draft)
        return _compared(await self._client.product(self._key), draft)

    async def _listed(self) -> list[Product]:
        return list((await self._client.listing()).products)

    async def _delete(self) -> str:
        key = self._key
        await self._client.delete_product(key)
        await self._client.delete_product(key)
        return await _unknown(self._client.product(key))

    async def _soon(self, read: Callable[[], Awaitable[list[Product]]]) -> str:
        loop, key = asyncio.get_running_loop(), self._key
        began = loop.time()
        while key not in {one.id for one in await read()}:
            if loop.time() - began > LAG_SECONDS:
                raise Broken(f"It was not there after {LAG_SECONDS:.0f} seconds.")
            await asyncio.sleep(1.0)
        return f"It was there after {loop.time() - began:.0f} seconds."


async def _unknown(call: Awaitable[object]) -> str:
    with suppress(NotFound):
        await call
        raise Broken("It is answered as if it existed.")
    return "It is 404."


def _draft(title: str, price: str, quantity: int) -> ProductDraft:
    stock = Inventory(quantity=quantity)
    return ProductDraft(title=title, sku=RESERVED_SKU, price=Decimal(price), inventory=stock, status="draft")


FIRST = _draft("Contract test, please ignore", "1.50", 4)


def _compared(shown: Product, draft: ProductDraft) -> str:
    """Raises Broken where title, SKU, price or quantity are not as sent."""
    assert draft.inventory is not None
    quantity = shown.inventory.quantity if shown.inventory is not None else None
    pairs = {
        "title": (shown.title, draft.title),
        "sku": (shown.sku, draft.sku),
        "price": (shown.price, draft.price),
        "quantity": (quantity, draft.inventory.quantity),
    }
    wrong = [f"{name} {found} for {sent}" for name, (found, sent) in pairs.items() if found != sent]
    if wrong:
        raise Broken(f"It shows {', '.join(wrong)}.")
    return "It shows what was sent."
