"""429: the pause in both forms, what it costs, and how the pace learns."""

import asyncio
import time
from datetime import UTC, datetime

import httpx
import pytest

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import NotSent, RateLimited, Unavailable
from midas_pipelines.fourseller.http import rate_limit
from midas_pipelines.fourseller.http.answers import LONGEST, LONGEST_PAUSE, Call, seconds_asked
from midas_pipelines.fourseller.http.rate_limit import AdaptivePace, FailedCall
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines_tests.fourseller.channel import answering, channel, draft, use
from midas_pipelines_tests.sandbox_thread import SandboxThread

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
PRODUCT = httpx.Response(200, json={"id": "P1", "sku": "S"})
MADE = httpx.Response(201, json={"id": "P1", "sku": "S"})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sunday, 01-Mar-26 12:00:09 GMT", 9.0),
        ("Sun Mar  1 12:00:05 2026", 5.0),
        ("999999999", LONGEST),
        ("1772366430", 30.0),  # Unix seconds, as NOW is 1772366400
        ("1772366430.5", 30.5),
        ("1772366430000", 30.0),
        ("1772366430000000", 30.0),
        ("1772360000", 0.0),
        ("-1772366430", 0.0),
        ("1e300", LONGEST),
        ("2026-03-01T12:00:30Z", 30.0),
        ("2026-03-01T13:00:30+01:00", 30.0),
        ("30, 60", 30.0),
        ("soon, 60", 60.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT, 5", 30.0),
        ("inf", LONGEST),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert seconds_asked(header, NOW) == seconds


class Noting:
    """A pace that lets everything pass and writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    async def take(self) -> float:
        self.told.append("take")
        return 0.0

    async def blocked(self, seconds: float) -> None:
        self.told.append(seconds)

    async def succeeded(self) -> None:
        self.told.append("ok")


def limited(retry_after: str) -> httpx.Response:
    return httpx.Response(
        429, headers={"Retry-After": retry_after}, json={"error": {"code": "x", "message": "y"}}
    )


def test_a_429_costs_no_attempt_and_a_create_may_be_sent_again() -> None:
    pace = Noting()
    client = channel(transport=answering(*[limited("0.01")] * 5, MADE), pace=pace)
    use(client, lambda c: c.create_product(draft(), idempotency_key="k"))
    assert client.requests == 6
    assert pace.told == ["take", 0.01] * 5 + ["take", "ok"]


def test_a_write_that_is_kept_back_takes_no_turn_and_one_that_may_not_leave_after_its_turn_is_not_sent() -> (
    None
):
    pace, turns = Noting(), iter([False, True])

    def kept_back(call: Call) -> None:
        raise NotSent("Shadow mode is on.", item=call.item)

    def lost_meanwhile(call: Call) -> None:
        if next(turns):
            raise NotSent("The lease is over.", item=call.item)

    for guard, told in ((kept_back, []), (lost_meanwhile, ["take"])):
        client = channel(transport=answering(PRODUCT), pace=pace, guard=guard)
        with pytest.raises(NotSent):
            use(client, lambda c: c.set_quantity("P1", 1, NOW))
        assert (pace.told, client.requests) == (told, 0)


def test_failures_still_count_between_429s(quick: None) -> None:
    answers = [
        limited("0"),
        httpx.Response(503),
        limited("0"),
        httpx.Response(503),
        httpx.Response(503),
        PRODUCT,
    ]
    client = channel(transport=answering(*answers))
    with pytest.raises(Unavailable):
        use(client, lambda c: c.product("P1"))
    assert client.requests == 5


@pytest.mark.parametrize("header", ["120", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_pause_longer_than_the_budget_is_handed_up_at_once(header: str) -> None:
    client = channel(transport=answering(limited(header)), deadline_seconds=5)
    started = time.monotonic()
    with pytest.raises(RateLimited, match="may be sent again in") as raised:
        use(client, lambda c: c.product("P1"))
    assert time.monotonic() - started < 1
    assert raised.value.retry_after_seconds >= 120
    assert client.requests == 1


def test_a_pace_that_gives_no_turn_ends_with_the_deadline() -> None:
    class Closing(Noting):
        async def take(self) -> float:
            if "blocked" in self.told:
                await asyncio.sleep(60)
            return 0.0

        async def blocked(self, seconds: float) -> None:
            self.told.append("blocked")

    client = channel(transport=answering(limited("0")), pace=Closing(), deadline_seconds=0.3)
    with pytest.raises(RateLimited, match="no turn"):
        use(client, lambda c: c.product("P1"))


def test_the_adaptive_pace_slows_on_429_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "STEP", 50)
    monkeypatch.setattr(rate_limit, "LIFT_AT", 200)
    pace = AdaptivePace()

    async def run() -> None:
        assert pace.rate is None
        for _ in range(20):
            await pace.take()
        await pace.blocked(0.05)
        await pace.blocked(0.05)  # the same burst: halved once
        slowed = pace.rate
        assert slowed is not None
        assert slowed >= 100
        started = time.monotonic()
        await pace.take()
        assert time.monotonic() - started >= 0.045
        for _ in range(4):
            await pace.succeeded()
        assert pace.rate is None

    asyncio.run(run())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_in_a_long_pause_one_call_tries_every_two_minutes() -> None:
    clock = Clock()
    pace = AdaptivePace(clock=clock)

    async def run() -> None:
        await pace.blocked(24 * 3600)
        assert await pace.take() == LONGEST_PAUSE
        for _ in range(3):
            clock.now += LONGEST_PAUSE
            assert [await pace.take() for _ in range(3)] == [0.0, LONGEST_PAUSE, LONGEST_PAUSE]
        await pace.blocked(600)  # the probe's answer is the newest word
        assert await pace.take() == LONGEST_PAUSE
        clock.now += LONGEST_PAUSE
        assert await pace.take() == 0.0
        await pace.succeeded()
        assert [await pace.take() for _ in range(1)] == [0.0]

    asyncio.run(run())


def test_a_pause_by_unix_time_is_as_long_as_it_says_and_by_the_servers_own_clock() -> None:
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    headers = {"Retry-After": str(int(at.timestamp()) + 90), "Date": "Sun, 01 Mar 2026 12:00:00 GMT"}
    client = channel(transport=answering(httpx.Response(429, headers=headers)), deadline_seconds=5)
    with pytest.raises(RateLimited) as raised:
        use(client, lambda c: c.product("P1"))
    assert raised.value.retry_after_seconds == 90


@pytest.mark.parametrize(
    ("date", "ahead"), [("Fri, 01 Jan 2100 00:00:00 GMT", True), ("soon", None), ("", None)]
)
def test_the_date_of_an_answer_says_how_far_4sellers_clock_is_ahead(date: str, ahead: bool | None) -> None:
    client = channel(transport=answering(httpx.Response(200, headers={"Date": date}, json={"id": "P1"})))
    use(client, lambda c: c.product("P1"))
    assert (client.clock_ahead is not None and client.clock_ahead > 1e9) is bool(ahead)


def test_an_absurd_pause_holds_up_no_call_longer_than_two_minutes() -> None:
    failed: list[FailedCall] = []
    client = channel(transport=answering(limited("86400")), on_failed_call=failed.append)

    async def two(client: FourSeller) -> list[float]:
        waits = []
        for _ in range(2):
            with pytest.raises(RateLimited) as raised:
                await client.product("P1")
            waits.append(raised.value.retry_after_seconds)
        return waits

    assert [round(wait) for wait in use(client, two)] == [120, 120]
    assert client.requests == 1
    assert [one.pause_seconds for one in failed] == [86400.0]


def test_without_a_configured_limit_all_items_pass_a_limited_server() -> None:
    config = SandboxConfig(rate_limit=150, seed=1)
    with SandboxThread(config) as sandbox:

        async def create_all(client: object) -> None:
            assert isinstance(client, type(made_by))
            await asyncio.gather(
                *(client.create_product(draft(f"S-{n}"), idempotency_key=f"k{n}") for n in range(80))
            )

        made_by = channel(sandbox.url, in_flight=20)
        use(made_by, create_all)
        assert len(sandbox.app.state.products) == 80
        assert sandbox.app.calls.counts["POST", 429] < 40
