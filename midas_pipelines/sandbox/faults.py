"""Injects faults into the sandbox: by share, latency, and the rate limit."""

import math
import random
import time
from collections import deque
from collections.abc import Callable

from midas_pipelines.sandbox.config import SandboxConfig, checked_faults


class Faults:
    """Draws the fault of each call; the same seed and calls give the same faults."""

    def __init__(self, config: SandboxConfig) -> None:
        self._random = random.Random(config.seed)
        self._next: deque[str | None] = deque()
        self.shares = dict(config.faults)
        self.latency_ms = config.latency_ms
        self.jitter_ms = config.jitter_ms
        self.slow_seconds = config.slow_seconds
        self.timeout_seconds = config.timeout_seconds

    def set(self, shares: dict[str, float]) -> None:
        """Replaces all shares and drops scripted faults. Raises ValueError for an unknown kind."""
        self._next.clear()
        self.shares = checked_faults(shares)

    def script(self, kinds: list[str | None]) -> None:
        """The next calls meet exactly these, None for no fault; the shares apply again after them.
        Raises ValueError for an unknown kind."""
        checked_faults({kind: 0.0 for kind in kinds if kind is not None})
        self._next = deque(kinds)

    def draw(self) -> str | None:
        """The kind of fault this call meets, or None."""
        if self._next:
            return self._next.popleft()
        if not self.shares:
            return None
        drawn = self._random.random()
        for kind, share in self.shares.items():
            if drawn < share:
                return kind
            drawn -= share
        return None

    def coin(self) -> bool:
        """Heads or tails: whether a call that fails was applied first."""
        return self._random.random() < 0.5

    def delay(self) -> float:
        """Seconds this call takes."""
        if not self.jitter_ms:
            return self.latency_ms / 1000
        return max(0.0, self.latency_ms + self._random.uniform(-1, 1) * self.jitter_ms) / 1000


class RateLimit:
    """A rate limit with a small burst (GCRA: one number, the time the next request is due)."""

    def __init__(
        self, rate: float | None, burst: int | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._due = 0.0
        self.set(rate, burst)

    def set(self, rate: float | None, burst: int | None = None) -> None:
        """Changes the limit; None or 0 lifts it."""
        self.rate = rate or None
        self.burst = burst if burst is not None else max(2, math.ceil((rate or 0) / 10))

    def take(self) -> float:
        """0 when the request is within the limit, else the seconds until one will be."""
        if self.rate is None:
            return 0.0
        now = self._clock()
        due = max(self._due, now)
        wait = due - now - self.burst / self.rate
        if wait > 0:
            return wait
        self._due = due + 1.0 / self.rate
        return 0.0
