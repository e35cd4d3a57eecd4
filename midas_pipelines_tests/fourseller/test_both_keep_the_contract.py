"""The client is held to the document: against a mock made from it, and against the sandbox."""

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.contract import faults_of
from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.models import Attributes, Image, ProductDraft, Shipping, Tracking
from midas_pipelines_tests.fourseller.channel import channel, draft, every, use
from midas_pipelines_tests.fourseller.mock import Mock, answer_schema, check_request
from midas_pipelines_tests.sandbox_thread import SandboxThread

HOW = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
DRAFTS = st.builds(
    ProductDraft,
    title=WORDS,
    sku=WORDS,
    price=st.decimals(0, 10**8, places=2),
    description=st.none() | WORDS,
    images=st.none() | st.lists(st.builds(Image, url=WORDS, alt=st.none() | WORDS), max_size=2),
    attributes=st.none() | st.builds(Attributes, weight=st.none() | WORDS, color=st.none() | WORDS),
    shipping=st.none() | st.builds(Shipping, weight=st.none() | st.floats(0, 100)),
    metadata=st.none() | st.dictionaries(WORDS, WORDS, max_size=2),
)
CALLS: list[Any] = [
    lambda c, d: c.create_product(d, idempotency_key="k-1"),
    lambda c, d: c.update_product("P1", d),
    lambda c, d: c.product("P1"),
    lambda c, d: c.delete_product("P1"),
    lambda c, d: c.set_quantity("P1", 3, NOW),
    lambda c, d: c.quantity("P1"),
    lambda c, d: c.order("4S-1"),
    lambda c, d: c.update_order(
        "4S-1", status="shipped", at=NOW, tracking=Tracking(carrier="UPS", number="1Z")
    ),
]


@given(data=st.data(), product=DRAFTS, call=st.sampled_from(CALLS))
@settings(HOW, max_examples=16)
def test_the_client_sends_and_accepts_what_the_document_allows(
    data: st.DataObject, product: ProductDraft, call: Any
) -> None:
    mock = Mock(data.draw)
    use(channel(transport=mock), lambda client: call(client, product))
    assert mock.broken == []


@given(data=st.data())
@HOW
def test_pages_of_the_document_are_read_without_losing_a_row(data: st.DataObject) -> None:
    mock = Mock(data.draw)

    pages = channel(transport=mock).order_pages(
        updated_from=NOW, date_from=NOW, date_to=NOW, status="pending"
    )
    with suppress(ContractBroken):  # an empty page that declares rows is rightly refused
        page = asyncio.run(anext(pages))  # type: ignore[arg-type]
        assert page.rejected == []
        assert page.rows == len(mock.answered[0][1]["data"])
    assert mock.broken == []


class Watched(httpx.AsyncBaseTransport):
    """The real connections, with every request and every answer that is accepted held to the document."""

    def __init__(self, url: str) -> None:
        self._lines = httpx.AsyncHTTPTransport()
        self.seen = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        check_request(request)
        response = await self._lines.handle_async_request(request)
        status, schema = answer_schema(request)
        body = await response.aread()
        self.seen += 1
        assert response.status_code == status
        assert (faults_of(schema, json.loads(body)) if schema else body) in ([], b"")
        return httpx.Response(status, content=body)

    async def aclose(self) -> None:
        await self._lines.aclose()


async def a_day(client: FourSeller, sandbox: SandboxThread) -> None:
    made = await asyncio.gather(
        *(client.create_product(draft(f"S-{n}"), idempotency_key=f"k{n}") for n in range(101))
    )
    await client.update_product(made[0].id, draft("S-0", title="画面 😀", price="0.10"))
    await client.set_quantity(made[0].id, 7, NOW)
    assert (await client.quantity(made[0].id)).quantity == 7
    assert [one.id for one in await client.find_by_sku("S-3")] == [made[3].id]
    assert (await client.listing()).complete
    placed = sandbox.app.state.place(sandbox.app.shoppers.order([{"sku": "S-5", "quantity": 2}]))
    assert (await every(client.order_pages(updated_from=NOW)))[0].data[0].id == placed["id"]
    await client.update_order(placed["id"], status="processing", at=NOW)
    await client.update_order(placed["id"], status="shipped", at=NOW, tracking=Tracking(number="1Z"))
    assert (await client.order(placed["id"])).state.status == "shipped"
    await client.delete_product(made[1].id)


def test_the_client_and_the_sandbox_keep_it_between_them(sandbox: SandboxThread) -> None:
    watched = Watched(sandbox.root)
    use(channel(sandbox.url, transport=watched), lambda client: a_day(client, sandbox))
    assert watched.seen > 110
