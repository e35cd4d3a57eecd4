"""How 4Seller is called: at what rate, when a failed call is tried again, and sums of the calls."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, astuple, dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import tenacity

from midas_pipelines.fourseller.errors import Ambiguous, FourSellerError, RateLimited, Unavailable
from midas_pipelines.fourseller.http.answers import LONGEST_PAUSE, Call

RECENT = 64  # requests over which the rate sent is judged
FEW = 8  # requests that are too few to judge by
SLOWEST = 1.0  # requests a second
STEP, LIFT_AT = 0.1, 2000.0  # requests a second that each answered call adds, and at which the limit ends
GENTLY = 0.8  # what is left of a paced rate that met a 429; one that was never paced is halved
UNKNOWN = 20.0  # requests a second taken for the rate sent when it cannot be judged


class Pace(Protocol):
    """Asked before each request and given its result; one may be shared by all processes."""

    async def take(self) -> float:
        """Waits for a turn and returns 0; in a long pause returns the seconds to wait at once."""

    async def blocked(self, seconds: float) -> None:
        """4Seller answered 429 and asks for this pause."""

    async def succeeded(self) -> None:
        """A request was answered, and not with 429."""


class AdaptivePace:
    """Unlimited until the first 429; then it sends nothing for the pause asked, lowers its rate, and recovers.

    In a pause of more than two minutes one call tries every two minutes, and its answer ends the pause or begins it again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate: float | None = None
        self._next = 0.0  # when the next request may go
        self._blocked_until = 0.0
        self._probe_at = 0.0  # in a long pause: when one call tries
        self._probing = False
        self._sent: deque[float] = deque(maxlen=RECENT)

    @property
    def rate(self) -> float | None:
        """Requests a second it allows now; None while it has met no limit."""
        return self._rate

    async def take(self) -> float:
        """Waits for a short pause and for this request's turn."""
        while True:
            now = self._clock()
            if now < self._blocked_until:
                if self._probe_at >= self._blocked_until:
                    await asyncio.sleep(self._blocked_until - now)
                    continue
                if now < self._probe_at:
                    return self._probe_at - now
                self._probing, self._probe_at = True, now + LONGEST_PAUSE
                return 0.0
            if self._rate is None:
                self._sent.append(now)
                return 0.0
            turn, pause = max(self._next, now), self._blocked_until
            self._next = turn + 1.0 / self._rate
            if turn > now:
                await asyncio.sleep(turn - now)
            if self._blocked_until == pause:  # else a pause began meanwhile, and took the turn with it
                return 0.0

    async def blocked(self, seconds: float) -> None:
        """Stops all sending for `seconds` and lowers the rate, once for each pause."""
        now = self._clock()
        self._end_probe(now)
        if now >= self._blocked_until:  # the other 429s of the same burst are no news
            sent = self._sent
            seen = (len(sent) - 1) / max(sent[-1] - sent[0], 0.05) if len(sent) >= FEW else UNKNOWN
            self._rate = max(SLOWEST, seen / 2 if self._rate is None else self._rate * GENTLY)
        if now + seconds > self._blocked_until:
            self._blocked_until, self._probe_at = now + seconds, now + min(seconds, LONGEST_PAUSE)
        self._next = self._blocked_until  # waiting callers take a new turn after the pause

    async def succeeded(self) -> None:
        """Lets the rate grow, and ends a long pause whose probe was answered."""
        self._end_probe(self._clock())
        if self._rate is not None:
            self._rate = self._rate + STEP if self._rate < LIFT_AT else None

    def _end_probe(self, now: float) -> None:
        if self._probing:
            self._probing = False
            self._blocked_until = self._next = now


ATTEMPTS = 3
_BACK_OFF = tenacity.wait_random_exponential(multiplier=0.25, max=2.0)
"""Seconds: the longest wait doubles with each attempt, and the wait is drawn from zero up to it."""

_doubts: ContextVar[list[Ambiguous] | None] = ContextVar("doubts", default=None)


@contextmanager
def noting_doubts() -> Iterator[list[Ambiguous]]:
    """Collects the writes of this task that got no answer, even if a later attempt did."""
    noted: list[Ambiguous] = []
    token = _doubts.set(noted)
    try:
        yield noted
    finally:
        _doubts.reset(token)


class Budget:
    """The attempts and seconds that one call may still use. The clock starts when the first request is sent, not
    while it waits its turn; a 429 takes time but no attempt, because it is not about the item. `doubt` is the last attempt
    that may have been applied."""

    def __init__(self, call: Call, deadline_seconds: float) -> None:
        self.call = call
        self.sent = 0
        self._failed = 0
        self._seconds = deadline_seconds
        self._ends: float | None = None
        self.doubt: Ambiguous | None = None

    @property
    def remaining(self) -> float:
        """Seconds left for the call."""
        return self._seconds if self._ends is None else self._ends - time.monotonic()

    def start_attempt(self) -> float:
        """Counts one attempt and returns the seconds it may take, so that later attempts still fit.
        A call that is never sent twice may use all that is left."""
        if self._ends is None:
            self._ends = time.monotonic() + self._seconds
        self.sent += 1
        shares = ATTEMPTS - self._failed if self.call.resend else 1
        return max(self.remaining / shares, 0.05)

    def note(self, error: FourSellerError) -> None:
        """Records a failed attempt."""
        if not isinstance(error, RateLimited):
            self._failed += 1
        if isinstance(error, Ambiguous):
            self.doubt = error
            if (noted := _doubts.get()) is not None:
                noted.append(error)

    def may_send_again(self, error: BaseException) -> bool:
        """Whether a retry may help and cannot apply anything twice."""
        if isinstance(error, Ambiguous):
            return self.call.resend
        return isinstance(error, Unavailable | RateLimited)

    def pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds to wait before the next attempt: the pause of a 429, else the backoff."""
        error = state.outcome.exception() if state.outcome else None
        return error.retry_after_seconds if isinstance(error, RateLimited) else _BACK_OFF(state)

    def is_spent(self, state: tenacity.RetryCallState) -> bool:
        """Whether the attempts are used up, or the next one could not start in time."""
        return self._failed >= ATTEMPTS or state.upcoming_sleep >= self.remaining


async def send_with_retries(budget: Budget, attempt: Callable[[Budget], Awaitable[Any]]) -> Any:
    """Runs `attempt` until it gives an answer, fails for good, or the budget is spent. Raises the last error, or Ambiguous
    after a lost write. The first attempt runs outside of tenacity's loop, which costs as much as building the request."""
    failed: list[FourSellerError] = []
    try:
        return await attempt(budget)
    except FourSellerError as error:
        failed.append(error)

    async def next_attempt() -> Any:
        if failed:
            raise failed.pop()
        return await attempt(budget)

    again = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(budget.may_send_again),
        stop=budget.is_spent,
        wait=budget.pause,
        sleep=asyncio.sleep,
        reraise=True,
    )
    try:
        return await again(next_attempt)
    except FourSellerError as error:  # after any attempt that may have been applied the call is in doubt
        raise (budget.doubt if budget.may_send_again(error) else None) or error from None


@dataclass(frozen=True, slots=True)
class FailedCall:
    """One attempt that failed. `message` holds no key and no personal data; `status` is None without an answer;
    `pause_seconds` is the pause that a 429 asked for."""

    endpoint: str
    status: int | None
    code: str | None
    attempt: int
    message: str
    item: str | None
    at: datetime
    pause_seconds: float = 0.0


@dataclass
class CallSums:
    """Sums over calls as they were sent, each attempt counted; a call lasts from its sending to its answer."""

    requests: int = 0  # finished calls, so that no share of them is above one
    failed: int = 0  # also where a retry succeeded
    limited: int = 0  # failed calls that met 4Seller's rate limit (429)
    writes: int = 0  # calls that change something
    seconds: float = 0.0  # how long all calls lasted together
    write_seconds: float = 0.0  # how long the writes lasted together
    busy_seconds: float = 0.0  # for how long at least one call was under way

    def since(self, earlier: CallSums) -> CallSums:
        """The difference to `earlier`, a reading of the same meter."""
        return CallSums(*(now - before for now, before in zip(astuple(self), astuple(earlier), strict=True)))

    def as_counts(self) -> dict[str, int | float]:
        """The sums by name, for storing; seconds to the tenth of a millisecond."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


class CallMeter:
    """Adds up the calls of one event loop; `sent` counts those that have begun."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._under_way = self.sent = 0
        self._busy_since = 0.0
        self._sums = CallSums()

    def begin(self) -> float:
        """Counts a call that is sent now; returns the start time for `end`."""
        now = self._clock()
        if not self._under_way:
            self._busy_since = now
        self._under_way += 1
        self.sent += 1
        return now

    def end(self, began: float, *, write: bool) -> None:
        """Counts the time of a finished call, answered or not."""
        now, sums = self._clock(), self._sums
        self._under_way -= 1
        if not self._under_way:
            sums.busy_seconds += now - self._busy_since
        sums.requests += 1
        sums.seconds += now - began
        if write:
            sums.writes += 1
            sums.write_seconds += now - began

    def failed(self, status: int | None) -> None:
        """Counts the call that just finished as failed with that status; None where there was no answer."""
        self._sums.failed += 1
        self._sums.limited += status == 429

    def read(self) -> CallSums:
        """The sums up to this moment."""
        under_way = self._clock() - self._busy_since if self._under_way else 0.0
        return replace(self._sums, busy_seconds=self._sums.busy_seconds + under_way)
