"""Clients and drafts for the tests of the channel."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.models import Inventory, ProductDraft

KEY = "sandbox-key"
Result = TypeVar("Result")


def draft(sku: str = "SCR-1", **fields: Any) -> ProductDraft:
    """A product worth sending."""
    given: dict[str, Any] = {"title": "Screen", "price": Decimal("12.50"), "inventory": Inventory(quantity=5)}
    return ProductDraft(sku=sku, **(given | fields))


def channel(url: str = "https://api.4seller.com/v1", **options: Any) -> FourSeller:
    """A client with the sandbox's credentials."""
    given = {"base_url": url, "api_key": SecretStr(KEY), "seller_id": "sandbox-seller"}
    return FourSeller(**(given | options))


def use(client: FourSeller, act: Callable[[FourSeller], Awaitable[Result]]) -> Result:
    """What `act` gives, the client opened and closed around it."""

    async def run() -> Result:
        async with client:
            return await act(client)

    return asyncio.run(run())


async def every(pages: Any) -> list[Any]:
    """All pages of an async iterator."""
    return [page async for page in pages]


def answering(*answers: httpx.Response | Exception) -> httpx.MockTransport:
    """A transport that gives these answers one after the other, the last one again and again."""
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        given = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(given, Exception):
            raise given
        return httpx.Response(given.status_code, headers=given.headers, content=given.content)

    return httpx.MockTransport(handle)
