"""How fast calls may be sent: what a pace is, and one that learns the limit from 4Seller's own answers."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

RECENT = 64  # requests over which the rate sent is judged
FEW = 8  # requests that are too few to judge by
UNKNOWN = 20.0  # requests a second taken for the rate sent when it cannot be judged


class Pace(Protocol):
    """Asked before each request and told how it went; one may be shared by all processes."""

    async def take(self) -> None:
        """Returns when one request may be sent."""

    async def blocked(self, seconds: float) -> None:
        """4Seller answered 429 and asks for this pause."""

    async def succeeded(self) -> None:
        """A request was answered, and not with 429."""


class AdaptivePace:
    """Unlimited until the first 429; then it sends nothing for the pause asked, halves its rate, and recovers.

    The rate grows by a step for each answered call (additive increase, multiplicative decrease, as TCP does), and
    the limit is lifted once it reaches `lift_at` requests a second.
    """

    def __init__(
        self,
        *,
        floor: float = 1.0,
        step: float = 0.1,
        lift_at: float = 2000.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._floor = floor
        self._step = step
        self._lift_at = lift_at
        self._clock = clock
        self._rate: float | None = None
        self._next = 0.0  # when the next request may go
        self._blocked_until = 0.0
        self._sent: deque[float] = deque(maxlen=RECENT)

    @property
    def rate(self) -> float | None:
        """Requests a second it allows now; None while it has met no limit."""
        return self._rate

    async def take(self) -> None:
        """Waits for the pause and for this request's turn."""
        while True:
            now = self._clock()
            if now < self._blocked_until:
                await asyncio.sleep(self._blocked_until - now)
                continue
            if self._rate is None:
                self._sent.append(now)
                return
            turn = max(self._next, now)
            self._next = turn + 1.0 / self._rate
            if turn > now:
                await asyncio.sleep(turn - now)
            if self._clock() >= self._blocked_until:
                return

    async def blocked(self, seconds: float) -> None:
        """Stops all sending for `seconds` and halves the rate, once for each pause."""
        now = self._clock()
        if now >= self._blocked_until:  # the other 429s of the same burst tell nothing new
            self._rate = max(self._floor, (self._rate or self._seen()) / 2)
        self._blocked_until = max(self._blocked_until, now + seconds)
        self._next = max(self._next, self._blocked_until)

    async def succeeded(self) -> None:
        """Lets the rate grow."""
        if self._rate is not None:
            self._rate += self._step
            if self._rate >= self._lift_at:
                self._rate = None

    def _seen(self) -> float:
        """Requests a second as they were sent lately."""
        if len(self._sent) < FEW:
            return UNKNOWN
        return (len(self._sent) - 1) / max(self._sent[-1] - self._sent[0], 0.05)
