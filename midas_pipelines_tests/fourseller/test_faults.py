"""What each kind of fault does to each kind of call, over real connections that are really reset."""

import asyncio
import time
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import Ambiguous, FourSellerError, NotFound, Unavailable
from midas_pipelines.fourseller.http.rate_limit import FailedCall
from midas_pipelines_tests.fourseller.channel import channel, draft, use
from midas_pipelines_tests.sandbox_thread import SandboxThread

NOW = datetime(2026, 3, 1, tzinfo=UTC)
pytestmark = pytest.mark.usefixtures("quick")

LOSSES = ["500", "503", "timeout", "reset-before", "reset-after-apply", "garbage", "truncated"]
APPLIED = {"reset-after-apply", "garbage", "truncated"}
NOT_APPLIED = {"503", "reset-before"}


def result(sandbox: SandboxThread, *kinds: str | None) -> None:
    """The next calls meet these faults, the ones after that none."""
    sandbox.app.faults.script(list(kinds))


def make(sandbox: SandboxThread, sku: str = "SCR-1") -> str:
    product = sandbox.app.state.create({"title": "t", "sku": sku, "price": "1", "inventory": {"quantity": 1}})
    return str(product["id"])


def client_of(
    sandbox: SandboxThread,
    failed: list[FailedCall] | None = None,
    *,
    kind: str = "timeout",
    seconds: float = 0.4,
) -> FourSeller:
    """A client that waits so long only where the fault is that no answer comes."""
    kept: list[FailedCall] = [] if failed is None else failed
    patience = seconds if kind == "timeout" else 30
    return channel(sandbox.url, deadline_seconds=patience, on_failed_call=kept.append)


def test_that_a_product_is_not_there_is_an_answer_and_a_failed_call_only_where_it_was_to_be_changed(
    sandbox: SandboxThread,
) -> None:
    failed: list[FailedCall] = []
    client = client_of(sandbox, failed)

    async def ask(c: FourSeller) -> None:
        await c.delete_product("gone")
        for asked in (c.product("gone"), c.product_row("gone"), c.update_product("gone", draft("SCR-1"))):
            with pytest.raises(NotFound):
                await asked

    use(client, ask)
    assert [call.endpoint for call in failed] == ["PUT /products/{id}"]


@pytest.mark.parametrize("kind", LOSSES)
def test_a_lost_create_is_never_sent_again(sandbox: SandboxThread, kind: str) -> None:
    result(sandbox, kind)
    client = client_of(sandbox, kind=kind)
    with pytest.raises(Ambiguous, match="look before sending it again"):
        use(client, lambda c: c.create_product(draft("SCR-7"), idempotency_key="k"))
    assert client.requests == 1
    made = len(sandbox.app.state.with_sku("SCR-7"))
    assert made == 1 if kind in APPLIED else made == 0 if kind in NOT_APPLIED else made in (0, 1)


@pytest.mark.parametrize("kind", [*LOSSES, "429", "slow"])
def test_a_read_is_tried_again(sandbox: SandboxThread, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    product_id = make(sandbox)
    result(sandbox, kind)
    failed: list[FailedCall] = []
    monkeypatch.setattr(sandbox.app.faults, "coin", lambda: False)  # Retry-After in seconds: a date rounds up
    client = client_of(sandbox, failed, kind=kind, seconds=2)
    assert use(client, lambda c: c.product(product_id)).sku == "SCR-1"
    assert client.requests == (1 if kind == "slow" else 2)
    assert [(one.attempt, one.item) for one in failed] == ([] if kind == "slow" else [(1, product_id)])


WRITES: dict[str, Any] = {
    "put": lambda c, key: c.update_product(key, draft("SCR-1", title="New")),
    "quantity": lambda c, key: c.set_quantity(key, 9, NOW),
    "delete": lambda c, key: c.delete_product(key),
}
QUICK = [kind for kind in LOSSES if kind != "timeout"]


@pytest.mark.parametrize(
    ("kind", "write"), [*product(QUICK, WRITES), ("timeout", "quantity")]
)  # all three wait for an answer alike
def test_a_write_that_comes_to_the_same_is_tried_again(sandbox: SandboxThread, kind: str, write: str) -> None:
    product_id = make(sandbox)
    result(sandbox, kind, kind)
    use(client_of(sandbox, kind=kind, seconds=2.5), lambda c: WRITES[write](c, product_id))
    left = sandbox.app.state.products.get(product_id)
    assert left is None or left["title"] == "New" or left["inventory"]["quantity"] == 9


@pytest.mark.parametrize(("kind", "error"), [("503", Unavailable), ("reset-after-apply", Unavailable)])
def test_three_failed_reads_are_unavailable(sandbox: SandboxThread, kind: str, error: type) -> None:
    result(sandbox, *[kind] * 9)
    failed: list[FailedCall] = []
    client = client_of(sandbox, failed, kind=kind)
    with pytest.raises(error):
        use(client, lambda c: c.product("P1"))
    assert client.requests == 3
    assert [one.attempt for one in failed] == [1, 2, 3]
    assert {one.endpoint for one in failed} == {"GET /products/{id}"}


def test_a_write_lost_three_times_stays_in_doubt(sandbox: SandboxThread) -> None:
    product_id = make(sandbox)
    result(sandbox, "500", "503", "reset-before")
    with pytest.raises(Ambiguous):
        use(client_of(sandbox, kind="500"), lambda c: c.set_quantity(product_id, 2, NOW))


def test_a_server_that_hangs_is_left_within_the_deadline(sandbox: SandboxThread) -> None:
    result(sandbox, *["timeout"] * 9)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="no answer within"):
        use(client_of(sandbox), lambda c: c.product("P1"))
    assert time.monotonic() - started > 0.3


def test_nobody_listening_is_unavailable_even_for_a_create() -> None:
    client = channel("http://127.0.0.1:9", deadline_seconds=2)  # the discard port: closed
    with pytest.raises(Unavailable, match="could not be reached"):
        use(client, lambda c: c.create_product(draft(), idempotency_key="k"))
    assert client.requests == 3


def test_half_failing_calls_leave_the_other_half_done(sandbox: SandboxThread) -> None:
    result(sandbox, *(["503", None] * 20))
    results: list[Any] = []

    async def create_all(client: FourSeller) -> None:
        calls = (client.create_product(draft(f"S-{n}"), idempotency_key=f"k{n}") for n in range(40))
        results.extend(await asyncio.gather(*calls, return_exceptions=True))

    use(client_of(sandbox, kind="503"), create_all)
    assert sum(isinstance(one, FourSellerError) for one in results) == 20
    assert len(sandbox.app.state.products) == 20


def test_a_cancelled_call_leaves_the_client_usable(sandbox: SandboxThread) -> None:
    product_id = make(sandbox)
    sandbox.app.faults.latency_ms = 200

    async def cancel_and_go_on(client: FourSeller) -> int:
        calls = [asyncio.create_task(client.product(product_id)) for _ in range(4)]
        await asyncio.sleep(0.05)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        sandbox.app.faults.latency_ms = 0
        return len(await asyncio.gather(*(client.product(product_id) for _ in range(8))))

    assert use(channel(sandbox.url, in_flight=2), cancel_and_go_on) == 8


def test_a_connection_the_server_closed_is_not_used_again(sandbox: SandboxThread) -> None:
    with SandboxThread(sandbox.config) as first:
        port = int(first.root.rsplit(":", 1)[1])

        async def restart(client: FourSeller) -> int:
            await client.create_product(draft("A"), idempotency_key="a")
            await asyncio.to_thread(first.__exit__, None, None, None)
            with SandboxThread(sandbox.config, port=port) as second:
                await client.create_product(draft("B"), idempotency_key="b")
                return len(second.app.state.products)

        assert use(channel(first.url), restart) == 1
