"""Habits of the answer itself: pauses, redirects, and hostile bodies."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator

from midas_pipelines.sandbox.habits.habit import Answer, Habit, Reply, Use
from midas_pipelines.sandbox.habits.rows import CONTROL_CHARACTER, HALF_CHARACTER

MEGABYTE = 1024 * 1024
BYTES = {HALF_CHARACTER: b"\xe4\xbd", CONTROL_CHARACTER: b"\x01"}
ELSEWHERE = "/elsewhere"  # a redirect leads to this path on another name of this machine


def spoil(answer: Answer) -> Answer:
    """The answer with the marks of spoiled texts as the bytes they mean."""
    status, body, headers = answer
    for mark, meant in BYTES.items():
        body = body.replace(f"\\u{ord(mark):04x}".encode(), meant) if isinstance(body, bytes) else body
    return status, body, headers


def unix_retry_after(use: Use) -> Reply | None:
    """429 with a moment in place of a pause."""
    if not use.among_the_first():
        return None
    until = str(int(time.time()) + 2).encode()
    return Reply(
        429, {"error": {"code": "rate_limited", "message": "Too many calls."}}, [(b"retry-after", until)]
    )


def redirect(use: Use) -> Reply:
    """The same path on another name of this machine, which answers whatever it is asked."""
    port = use.call.headers.get(b"host", b"").rpartition(b":")[2].decode("latin-1")
    address = f"http://localhost:{port}{ELSEWHERE}{use.call.path}"
    return Reply(int(use.number), None, [(b"location", address.encode())])


def bomb(answer: Answer, use: Use) -> Answer:
    """The body behind N MB of blanks, packed to a thousandth."""
    status, body, headers = answer
    if not use.call.name.startswith(("list", "get")) or not isinstance(body, bytes):
        return answer
    packed = gzip.compress(b" " * int(use.number * MEGABYTE) + body, compresslevel=1)
    return status, packed, [*headers, (b"content-encoding", b"gzip")]


def endless(answer: Answer, use: Use) -> Answer:
    """Blanks up to N MB before the body, in parts without a length."""
    status, body, headers = answer
    if not use.call.name.startswith(("list", "get")) or not isinstance(body, bytes):
        return answer

    def flow(rest: bytes, parts: int) -> Iterator[bytes]:
        for _ in range(parts):
            yield b" " * (MEGABYTE // 16)
        yield rest

    return status, flow(body, int(use.number * 16)), headers


HABITS = {
    "unix-retry-after": Habit(
        "The first N calls are 429 with a Retry-After of Unix time, two seconds ahead (0: all).",
        ask=unix_retry_after,
    ),
    "redirects": Habit("Every call is redirected to another address, with status N.", 307, ask=redirect),
    "gzip-bomb": Habit("Reads are answered with gzip that unpacks to N MB.", 64, answer=bomb),
    "endless-bodies": Habit("Reads are answered with N MB of blanks before the body.", 64, answer=endless),
}
