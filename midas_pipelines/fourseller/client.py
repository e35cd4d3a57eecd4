"""The 4Seller client: every call of the contract, typed in and out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Self

import httpx
from pydantic import SecretStr

from midas_pipelines.fourseller import answers, pages
from midas_pipelines.fourseller.calls import Call, FailedCall, as_json, as_time
from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.fourseller.errors import FourSellerError, NotFound, RateLimited
from midas_pipelines.fourseller.models import InventoryLevel, Order, Product, ProductDraft, Tracking
from midas_pipelines.fourseller.pace import AdaptivePace, Pace
from midas_pipelines.fourseller.pages import Listing, OrderPage, ProductPage
from midas_pipelines.fourseller.retrying import Budget, send_until_settled
from midas_pipelines.fourseller.wire import Wire, segment


class FourSeller:
    """An async client, used as `async with FourSeller(...) as channel`.

    `in_flight` bounds the requests open at once; `pace` how fast they are sent (without one it adapts to the 429s
    it meets); `on_failed_call` is told of every failed attempt; `deadline_seconds` bounds a call, retries included,
    from its first request on. Every method raises an error of the `FourSellerError` family.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: SecretStr,
        seller_id: str,
        in_flight: int = 50,
        pace: Pace | None = None,
        on_failed_call: Callable[[FailedCall], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        deadline_seconds: float = 30.0,
    ) -> None:
        self._wire = Wire(base_url, api_key, seller_id, transport=transport)
        self._slots = asyncio.Semaphore(in_flight)
        self._pace: Pace = pace or AdaptivePace()
        self._on_failed_call = on_failed_call
        self._deadline_seconds = deadline_seconds
        self.requests = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._wire.close()

    # products

    async def create_product(self, draft: ProductDraft, *, idempotency_key: str) -> Product:
        """Makes a product. Sent again only when it surely was not applied: raises Ambiguous when the answer was
        lost, and the caller looks the SKU up before anything else."""
        return pages.read_product(
            await self._answer(
                Call(
                    "POST",
                    "/products",
                    "/products",
                    item=draft.sku,
                    body=draft.body(),
                    headers=((b"Idempotency-Key", idempotency_key.encode("ascii")),),
                    resend=False,
                )
            )
        )

    async def find_by_sku(self, sku: str) -> list[Product]:
        """Every product with exactly this SKU; a row that cannot be read is an error, for it could be the one."""
        found: list[Product] = []
        offset = 0
        while True:
            page = await self._product_page(offset, ("sku", sku), item=sku)
            if page.rejected:
                raise pages.broken_row(page.rejected[0])
            found += [product for product in page.data if product.sku == sku]
            offset += page.rows
            if not page.rows or offset >= page.total:
                return found

    async def product(self, product_id: str) -> Product:
        """One product. Raises NotFound."""
        return pages.read_product(await self._answer(_of_product("GET", product_id)))

    async def update_product(self, product_id: str, draft: ProductDraft) -> Product:
        """Replaces the whole product; sent again after a lost answer, for it comes to the same."""
        return pages.read_product(await self._answer(_of_product("PUT", product_id, body=draft.body())))

    async def delete_product(self, product_id: str) -> None:
        """Removes a product; one that is not there counts as done."""
        try:
            await self._answer(_of_product("DELETE", product_id))
        except NotFound:
            return

    # stock

    async def set_quantity(self, product_id: str, quantity: int, at: datetime) -> InventoryLevel:
        """Sets the quantity on sale, as it stood `at` (aware); absolute, so sent again after a lost answer."""
        body = as_json({"quantity": quantity, "timestamp": as_time(at)})
        return pages.read_one(
            InventoryLevel, await self._answer(_of_product("PATCH", product_id, "/inventory", body=body))
        )

    async def quantity(self, product_id: str) -> InventoryLevel:
        """The quantity on sale. Raises NotFound."""
        return pages.read_one(
            InventoryLevel, await self._answer(_of_product("GET", product_id, "/inventory"))
        )

    # pages

    async def product_pages(self, *, updated_from: datetime | None = None) -> AsyncIterator[ProductPage]:
        """Every page of products, the first one first and the others as they come, fetched side by side."""
        query = (("updated_from", as_time(updated_from)),) if updated_from else ()
        first = await self._product_page(0, *query)
        yield first
        if not first.rows:
            return
        offsets = range(first.rows, first.total, first.rows)
        rest = [asyncio.ensure_future(self._product_page(offset, *query)) for offset in offsets]
        try:
            for page in asyncio.as_completed(rest):
                yield await page
        finally:
            for task in rest:
                task.cancel()

    async def listing(self) -> Listing:
        """Every product, and whether it surely is every product; a page that fails ends it with its error."""
        read = [page async for page in self.product_pages()]
        return pages.as_listing(read)

    async def order_pages(
        self,
        *,
        updated_from: datetime | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        status: str | None = None,
    ) -> AsyncIterator[OrderPage]:
        """Pages of orders, oldest first, one after the other; an order that cannot be read is in `rejected`."""
        times = {"updated_from": updated_from, "date_from": date_from, "date_to": date_to}
        query = [(name, as_time(moment)) for name, moment in times.items() if moment]
        if status:
            query.append(("status", status))
        offset = 0
        while True:
            call = Call("GET", "/orders", "/orders", query=(*_place(offset), *query))
            page = pages.read_page(await self._answer(call), pages.read_order)
            yield page
            offset += page.rows
            if not page.rows or offset >= page.total:
                return

    # orders

    async def order(self, order_id: str) -> Order:
        """One order. Raises NotFound."""
        call = Call("GET", "/orders/{id}", f"/orders/{segment(order_id)}", item=order_id)
        return pages.read_order(await self._answer(call))

    async def update_order(
        self, order_id: str, *, status: str, at: datetime, tracking: Tracking | None = None
    ) -> Order:
        """Moves an order on, with its tracking. Raises Conflict for a move that 4Seller does not allow."""
        body: dict[str, Any] = {"status": status, "updated_at": as_time(at)}
        if tracking is not None:
            body["tracking"] = tracking.model_dump(exclude_none=True)
        call = Call(
            "PATCH", "/orders/{id}", f"/orders/{segment(order_id)}", item=order_id, body=as_json(body)
        )
        return pages.read_order(await self._answer(call))

    # one call

    async def _product_page(
        self, offset: int, *query: tuple[str, str], item: str | None = None
    ) -> ProductPage:
        call = Call("GET", "/products", "/products", item=item, query=(*_place(offset), *query))
        return pages.read_page(await self._answer(call), pages.read_product)

    async def _answer(self, call: Call) -> Any:
        async with self._slots:
            budget = Budget(call, self._deadline_seconds)
            return await send_until_settled(budget, self._attempt)

    async def _attempt(self, budget: Budget) -> Any:
        await self._pace.take()
        seconds = budget.start_attempt()
        self.requests += 1
        try:
            status, body, retry_after = await self._wire.send(budget.call, seconds)
            answer = answers.sort(budget.call, status, body, retry_after)
        except FourSellerError as error:
            await self._note(budget, error)
            raise
        await self._pace.succeeded()
        return answer

    async def _note(self, budget: Budget, error: FourSellerError) -> None:
        budget.note(error)
        if isinstance(error, RateLimited):
            await self._pace.blocked(error.retry_after_seconds)
        elif error.status is not None:
            await self._pace.succeeded()
        if self._on_failed_call is not None:
            self._on_failed_call(
                FailedCall(
                    endpoint=budget.call.endpoint,
                    status=error.status,
                    code=error.code,
                    attempt=budget.sent,
                    message=str(error),
                    item=budget.call.item,
                    at=datetime.now(UTC),
                )
            )


def _of_product(method: str, product_id: str, below: str = "", *, body: bytes | None = None) -> Call:
    return Call(
        method,
        "/products/{id}" + below,
        f"/products/{segment(product_id)}{below}",
        item=product_id,
        body=body,
    )


def _place(offset: int) -> tuple[tuple[str, str], ...]:
    return (("limit", str(PAGE_LIMIT)), ("offset", str(offset)))
