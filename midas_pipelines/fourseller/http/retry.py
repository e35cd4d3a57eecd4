"""Retries a call: three attempts with exponential backoff and full jitter, within one deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tenacity

from midas_pipelines.fourseller.errors import Ambiguous, FourSellerError, RateLimited, Unavailable
from midas_pipelines.fourseller.http.calls import Call

ATTEMPTS = 3
FIRST_BACK_OFF = 0.25  # seconds; doubles with each attempt, and the wait is drawn from zero up to it
LONGEST_BACK_OFF = 2.0

_BACK_OFF = tenacity.wait_random_exponential(multiplier=FIRST_BACK_OFF, max=LONGEST_BACK_OFF)

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
    while it waits its turn; a 429 takes time but no attempt, because it is not about the item."""

    def __init__(self, call: Call, deadline_seconds: float) -> None:
        self.call = call
        self.sent = 0
        self._failed = 0
        self._seconds = deadline_seconds
        self._ends: float | None = None
        self._doubt: Ambiguous | None = None

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
            self._doubt = error
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

    def verdict(self, error: FourSellerError) -> FourSellerError:
        """The error to raise: Ambiguous if any attempt of a write may have been applied, whatever came after."""
        if self._doubt is not None and isinstance(error, Unavailable | RateLimited):
            return self._doubt
        return error


async def send_with_retries(budget: Budget, attempt: Callable[[Budget], Awaitable[Any]]) -> Any:
    """Runs `attempt` until it gives an answer, fails for good, or the budget is spent.
    Raises the last error, or Ambiguous after a lost write."""
    again = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(budget.may_send_again),
        stop=budget.is_spent,
        wait=budget.pause,
        sleep=asyncio.sleep,
        reraise=True,
    )
    try:
        return await again(attempt, budget)
    except FourSellerError as error:
        raise budget.verdict(error) from None
