"""The 4Seller client: every call of the contract, typed in and out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self, TypeVar, cast

import httpx
from pydantic import SecretStr

from midas_pipelines.fourseller import errors
from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.fourseller.http import answers
from midas_pipelines.fourseller.http.answers import Call, as_json, as_time
from midas_pipelines.fourseller.http.rate_limit import (
    AdaptivePace,
    Budget,
    CallMeter,
    CallSums,
    FailedCall,
    Pace,
    send_with_retries,
)
from midas_pipelines.fourseller.lenient import ascii_value, segment
from midas_pipelines.fourseller.listed import ListedRow, Listing, ListingRead, read_listed_row
from midas_pipelines.fourseller.models import (
    InventoryLevel,
    Order,
    Product,
    ProductDraft,
    Tracking,
    read_level,
    read_order,
    read_product,
)
from midas_pipelines.fourseller.pages import SMALLEST_PAGE, OrderPage, Page, read_ahead, read_page
from midas_pipelines.text import folded

Read = TypeVar("Read")
Row = TypeVar("Row")


class FourSeller:
    """An async client, used as `async with FourSeller(...) as channel`.

    `in_flight` bounds the requests open at once; `pace` how fast they are sent (without one it adapts to the 429s
    it meets); `on_failed_call` is called for every failed attempt; `deadline_seconds` bounds a call, retries included,
    from its first request on; no write is sent for which `guard` raises NotSent; `watch` sees every answer. Every method
    raises an error of the `FourSellerError` family.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: SecretStr,
        seller_id: str,
        in_flight: int = 50,
        pace: Pace | None = None,
        on_failed_call: Callable[[FailedCall], None] = lambda _: None,
        transport: httpx.AsyncBaseTransport | None = None,
        deadline_seconds: float = 30.0,
        guard: Callable[[Call], None] = lambda _: None,
        watch: Callable[[Call, answers.Answer, float], None] = lambda *_: None,
    ) -> None:
        from midas_pipelines.fourseller.http.wire import Wire  # loads aiohttp

        self._wire = Wire(base_url, api_key, seller_id, transport=transport)
        self._in_flight, self._slots = in_flight, asyncio.Semaphore(in_flight)
        self._pace: Pace = pace or AdaptivePace()
        self._on_failed_call = on_failed_call
        self._deadline_seconds = deadline_seconds
        self._guard = guard
        self._watch = watch
        self._meter = CallMeter()
        self.clock_ahead: float | None = None  # seconds of 4Seller's clock before ours, as last answered
        self.key_accepted: bool | None = None  # by the last answer that shows it

    async def __aenter__(self) -> Self:
        return self

    def open(self, calls: int = 0) -> asyncio.Future[None] | None:
        """Loads what the first call would have to wait for, and opens connections for so many at once, within the event loop
        that they are sent from."""
        return self._wire.open(min(calls, self._in_flight))

    async def __aexit__(self, *_: object) -> None:
        await self._wire.close()

    @property
    def requests(self) -> int:
        """Calls sent so far, each attempt counted."""
        return self._meter.sent

    @property
    def sums(self) -> CallSums:
        """Totals of the calls so far."""
        return self._meter.read()

    @property
    def learnt_rate(self) -> float | None:
        """Calls a second learned from 429s; None where it met none, or was given a pace."""
        return self._pace.rate if isinstance(self._pace, AdaptivePace) else None

    # products

    async def create_product(self, draft: ProductDraft, *, idempotency_key: str) -> Product:
        """Creates a product. Sent again only when it certainly was not applied: raises Ambiguous when the answer was
        lost or cannot be read, and the caller looks the SKU up before anything else."""
        key = ("Idempotency-Key", ascii_value(idempotency_key, "the idempotency key"))
        call = Call(
            "POST", "/products", "/products", item=draft.sku, body=draft.body(), headers=(key,), resend=False
        )
        return await self._answer(call, read_product)

    async def find_by_sku(self, sku: str) -> list[Product]:
        """Every product with this SKU, however 4Seller spells it; a row that cannot be read is an error, because it could
        be the one."""
        found: dict[str, Product] = {}
        async for page in self._pages("/products", read_product, (("sku", sku),), item=sku):
            if page.rejected:
                why = f"4Seller listed a product for {sku} that cannot be read: {page.rejected[0]}"
                raise errors.ContractBroken(why, field=f"data.{page.rejected[0].field}", item=sku)
            found |= {one.id: one for one in page.data if one.sku and folded(one.sku) == folded(sku)}
        return list(found.values())

    async def product(self, product_id: str) -> Product:
        """One product. Raises NotFound."""
        return await self._answer(_of_product("GET", product_id), read_product)

    async def product_row(self, product_id: str) -> ListedRow:
        """One product as a row of a listing. Raises NotFound."""
        row = await self._answer(_of_product("GET", product_id), read_listed_row)
        return row._replace(id=product_id)

    async def update_product(self, product_id: str, draft: ProductDraft) -> Product:
        """Replaces the whole product; idempotent, so sent again after a lost answer."""
        return await self._answer(_of_product("PUT", product_id, body=draft.body()), read_product)

    async def delete_product(self, product_id: str) -> None:
        """Deletes a product; a missing one counts as deleted."""
        with suppress(errors.NotFound):
            await self._answer(_of_product("DELETE", product_id), lambda _: None)

    # stock

    async def set_quantity(self, product_id: str, quantity: int, at: datetime) -> InventoryLevel:
        """Sets the quantity on sale, as it was `at` (aware); absolute, so sent again after a lost answer."""
        body = as_json({"quantity": quantity, "timestamp": as_time(at)})
        return await self._answer(_of_product("PATCH", product_id, "/inventory", body=body), read_level)

    async def quantity(self, product_id: str) -> InventoryLevel:
        """The quantity on sale. Raises NotFound."""
        return await self._answer(_of_product("GET", product_id, "/inventory"), read_level)

    # pages

    def product_pages(self) -> AsyncIterator[Page[Product]]:
        """Every page of products in the channel's order, prefetched."""
        return self._pages("/products", read_product)

    async def listing(self) -> Listing:
        """Every product, and whether the list is certainly complete. A page that fails after the first leaves what was
        read before it, as not complete; bad credentials and a failing first page are raised."""
        read = ListingRead()
        try:
            async for page in self._pages("/products", read_listed_row):
                read.add(page)
        except (*errors.NOT_READ, errors.BadItem) as failed:  # BadItem: a refused offset
            if not read.pages:
                raise
            return read.end(str(failed))
        return read.end()

    def order_pages(
        self,
        *,
        updated_from: datetime | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        status: str | None = None,
    ) -> AsyncIterator[OrderPage]:
        """Pages of orders in the channel's order, prefetched; an order that cannot be read is in
        `rejected`. A page that cannot be fetched raises, so that no cursor moves past it."""
        times = {"updated_from": updated_from, "date_from": date_from, "date_to": date_to}
        query = {name: as_time(moment) for name, moment in times.items() if moment}
        query |= {"status": status} if status else {}
        return self._pages("/orders", read_order, tuple(query.items()))

    # orders

    async def order(self, order_id: str) -> Order:
        """One order. Raises NotFound."""
        return await self._answer(_of_order("GET", order_id), read_order)

    async def update_order(
        self, order_id: str, *, status: str, at: datetime, tracking: Tracking | None = None
    ) -> Order:
        """Changes an order's status, with its tracking. Raises Conflict for a transition that 4Seller does not allow."""
        body: dict[str, Any] = {"status": status, "updated_at": as_time(at)}
        if tracking is not None:
            body["tracking"] = tracking.model_dump(exclude_none=True)
        return await self._answer(_of_order("PATCH", order_id, body=as_json(body)), read_order)

    # how

    async def _pages(
        self,
        path: str,
        read_row: Callable[[Any], Row],
        query: tuple[tuple[str, str], ...] = (),
        item: str | None = None,
    ) -> AsyncIterator[Page[Row]]:
        async def fetch(offset: int) -> Page[Row]:
            place = (("limit", str(PAGE_LIMIT)), ("offset", str(offset)))
            call = Call("GET", path, path, item=item, query=(*place, *query))
            return await self._answer(call, lambda body: read_page(body, read_row))

        smallest = SMALLEST_PAGE if item is None else PAGE_LIMIT  # a look-up finds few
        async with aclosing(read_ahead(fetch, smallest=smallest)) as ahead:
            async for page in ahead:
                yield page

    async def _answer(self, call: Call, read: Callable[[Any], Read]) -> Read:
        async with self._slots:
            budget = Budget(call, self._deadline_seconds)
            return cast("Read", await send_with_retries(budget, partial(self._attempt, read=read)))

    async def _attempt(self, budget: Budget, read: Callable[[Any], Read]) -> Read:
        if budget.call.writes:  # the one place that every write passes
            self._guard(budget.call)  # before the wait: what is not sent takes no turn from others
        await self._turn(budget)
        if budget.call.writes:
            self._guard(budget.call)  # and after it: a lease may end meanwhile
        seconds = budget.start_attempt()
        try:
            sent = await self._send(budget.call, seconds)
            answer = answers.read(budget.call, read, answers.sort(budget.call, sent))
        except errors.FourSellerError as error:
            await self._note(budget, error)
            raise
        await self._pace.succeeded()
        return answer

    async def _send(self, call: Call, seconds: float) -> answers.Answer:
        began = self._meter.begin()
        try:
            answer = await self._wire.send(call, seconds)
            self._watch(call, answer, time.perf_counter() - began)
            if answer.status in (401, 403):
                self.key_accepted = False
            elif 200 <= answer.status < 300 or answer.status in (404, 409, 422):
                self.key_accepted = True
            if answer.date is not None:
                self.clock_ahead = (answer.date - datetime.now(UTC)).total_seconds()
            return answer
        finally:
            self._meter.end(began, write=call.writes)

    async def _turn(self, budget: Budget) -> None:
        """Waits for the pace: as long as it takes before the first request, within the deadline after it."""
        try:
            async with asyncio.timeout(budget.remaining if budget.sent else None):
                wait = await self._pace.take()
        except TimeoutError:
            wait = answers.PAUSE_UNASKED
        if wait:
            why = (
                f"{budget.call.subject} got no turn under the rate limit in time; try again in {wait:.0f} s."
            )
            raise errors.RateLimited(why, retry_after_seconds=wait, item=budget.call.item, status=429)

    async def _note(self, budget: Budget, error: errors.FourSellerError) -> None:
        call, now = budget.call, datetime.now(UTC)
        budget.note(error)
        if isinstance(error, errors.RateLimited):
            await self._pace.blocked(error.asked_seconds)
        elif error.status is not None:
            await self._pace.succeeded()
        if isinstance(error, errors.NotFound) and call.asks_for_one:
            return  # that it is not there is what was asked
        self._meter.failed(error.status)
        answered = (error.status, error.code, budget.sent, str(error))
        self._on_failed_call(FailedCall(call.endpoint, *answered, call.item, now, error.asked_seconds))


def _of_product(method: str, product_id: str, below: str = "", *, body: bytes | None = None) -> Call:
    path = f"/products/{segment(product_id)}{below}"
    return Call(method, "/products/{id}" + below, path, item=product_id, body=body)


def _of_order(method: str, order_id: str, *, body: bytes | None = None) -> Call:
    return Call(method, "/orders/{id}", f"/orders/{segment(order_id)}", item=order_id, body=body)
