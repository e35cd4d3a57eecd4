"""Turns an HTTP answer into the JSON it holds, however badly spelled, or into the error it means for this call."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import pydantic_core

from midas_pipelines.fourseller.errors import (
    Ambiguous,
    BadCredentials,
    BadItem,
    Conflict,
    ContractBroken,
    FourSellerError,
    NotFound,
    RateLimited,
    Unavailable,
)
from midas_pipelines.fourseller.http.calls import Call
from midas_pipelines.fourseller.http.rate_limit import LONGEST_PAUSE, seconds_asked
from midas_pipelines.text import writable_in

LONGEST_NUMBER = 400  # digits; Python refuses integers of thousands
ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')


def read_json(body: bytes) -> Any:
    """The value in a body.

    Bytes that are no UTF-8, halves of a surrogate pair and NUL become U+FFFD, raw control characters are kept, and NaN,
    Infinity and numbers of hundreds of digits are null.

    Raises:
        ValueError: it is not JSON.
    """
    if b"\\u0000" not in body:  # which no database stores
        with suppress(ValueError):
            return pydantic_core.from_json(body, allow_inf_nan=False)
    text = ESCAPE.sub(_escape, body.decode("utf-8-sig", "replace"))
    try:
        value = json.loads(text, strict=False, parse_constant=lambda _: None, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return writable_in(value)


def _escape(found: re.Match[str]) -> str:
    return found[0] if found[1] else "\\\\"  # such as the backslash of C:\parts


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= LONGEST_NUMBER else None


Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `date` is the time by the server's clock, where given."""

    status: int
    body: bytes
    retry_after: str | None = None
    date: datetime | None = None


PAUSE_UNASKED = 1.0  # seconds to wait on a 429 that does not say how long
LONGEST_WORDS = 300  # characters of the server's own words that an error quotes


EXPECTED = frozenset({200, 201, 204})


@dataclass
class AnswerSample:
    """Counts and times the answers of clients by call, and hands some of them on to be compared with the contract.

    Args:
        sample: of how many answers one is handed on, 0 for none; of reads the first too, for a process may make few.
        compare: takes these, and every answer of an unexpected status.
        seconds: by call, the number of answers and the seconds that they took together.
    """

    sample: int
    compare: Callable[[Call, Answer], None]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def note(self, call: Call, answer: Answer, seconds: float) -> None:
        """Takes an answer."""
        sums = self.seconds.setdefault(call.endpoint, [0, 0.0])
        self.seconds[call.endpoint] = [sums[0] + 1, sums[1] + seconds]
        if not self.sample:
            return
        self._counts[call.endpoint] += 1
        number = self._counts[call.endpoint]
        if answer.status not in EXPECTED or number % self.sample == 0 or (number == 1 and not call.writes):
            self.compare(call, answer)

    def take_seconds(self, least: int) -> dict[str, list[float]]:
        """The calls with at least so many answers since the last time."""
        enough = {call: sums for call, sums in self.seconds.items() if sums[0] >= least}
        for call in enough:
            del self.seconds[call]
        return enough


def sort(call: Call, answer: Answer) -> Any:
    """The JSON of a good answer (None when it is empty). Raises the error of the family that the answer means."""
    status, body = answer.status, answer.body
    if 200 <= status < 300:
        return _parsed(call, status, body)
    if status >= 500 or status == 408:
        raise lost(call, f"4Seller answered {status}", status=status)
    code, words = _error_in(body)
    if not call.template.startswith("/products"):
        words = ""  # about an order they may name the buyer
    if status == 429:
        asked = seconds_asked(answer.retry_after, answer.date or datetime.now(UTC))
        asked = PAUSE_UNASKED if asked is None else asked
        pause = min(asked, LONGEST_PAUSE)
        raise RateLimited(
            f"4Seller limits the rate and asks for a pause of {asked:g} s: {call.subject} may be sent again in "
            f"{pause:g} s.",
            retry_after_seconds=pause,
            asked_seconds=asked,
            item=call.item,
            code=code,
        )
    raise _refusal(call, status, code, words)


def read(call: Call, reader: Callable[[Any], Read], answer: Any) -> Read:
    """The answer as the reader types it. Raises ContractBroken naming the call and the field; Ambiguous in its place
    where the call must not be sent twice, because something was created and only a look-up shows what."""
    try:
        return reader(answer)
    except ContractBroken as broken:
        if not call.resend:
            raise Ambiguous(
                f"{call.subject} was answered, but {broken} Look before sending it again.", item=call.item
            ) from None
        raise ContractBroken(f"{call.subject}: {broken}", field=broken.field, item=call.item) from None


def lost(call: Call, what: str, *, status: int | None = None) -> FourSellerError:
    """The error of a call that got no usable answer: ambiguous for a write, which may have been applied."""
    if call.writes:
        return Ambiguous(
            f"{what} to {call.subject}: it may have been applied; look before sending it again.",
            item=call.item,
            status=status,
        )
    return Unavailable(f"{what} to {call.subject}; try again later.", item=call.item, status=status)


def _parsed(call: Call, status: int, body: bytes) -> Any:
    if not body and call.method == "DELETE":
        return None
    try:
        return read_json(body)
    except ValueError:
        if call.method == "DELETE":
            return None  # 200 without a JSON body is still "removed"
        raise lost(call, f"4Seller answered {status} with a body that is not JSON", status=status) from None


def _refusal(call: Call, status: int, code: str | None, words: str) -> FourSellerError:
    if 300 <= status < 400:  # following it would hand the key and the body to another address
        return BadCredentials(
            f"{call.subject} was answered with a redirect ({status}), which is never followed: set FOURSELLER_API_URL "
            "to the address of the API itself.",
            item=call.item,
            status=status,
        )
    if status in (400, 422):
        return BadItem(
            f"4Seller refused {call.subject}: {words or 'it gave no reason'}. Correct the item, then retry it.",
            item=call.item,
            status=status,
            code=code,
        )
    if status in (401, 403):
        return BadCredentials(
            f"4Seller refused the credentials ({status}): check FOURSELLER_API_KEY and FOURSELLER_SELLER_ID.",
            status=status,
            code=code,
        )
    if status == 404:
        return NotFound(
            f"4Seller does not have what {call.subject} is about.", item=call.item, status=404, code=code
        )
    if status == 409:
        return Conflict(
            f"4Seller refused {call.subject} as a conflict: {words or 'it gave no reason'}. Read it back first.",
            item=call.item,
            status=status,
            code=code,
        )
    return ContractBroken(
        f"4Seller answered {call.subject} with status {status}, which the contract does not know.",
        field="status",
        item=call.item,
        status=status,
    )


def _error_in(body: bytes) -> tuple[str | None, str]:
    """The code and message of an error body; never raises, whatever the body is."""
    try:
        error = pydantic_core.from_json(body)["error"]
        code, message, details = error.get("code"), error.get("message"), error.get("details")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, ""
    said = [_plain(message), _plain(details)]
    return (str(code)[:100] if code else None), ": ".join(part for part in said if part)[:LONGEST_WORDS]


def _plain(value: Any) -> str:
    """Details as words: a string, or `field: what` of a mapping or a list of them."""
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(_plain(inner) for inner in value)
    return "" if value is None else str(value).rstrip(".")
