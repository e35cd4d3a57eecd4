"""A call, and what is answered: the JSON that an answer holds, however badly spelled, or the error it means for this call."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, TypeVar

import pydantic_core

from midas_pipelines.fourseller import errors
from midas_pipelines.text import writable_in

LONGEST_NUMBER = 400  # digits; Python refuses integers of thousands
ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')


@dataclass(frozen=True, slots=True)
class Call:
    """What to send: `template` names the endpoint in records, `path` is the real path.

    `item` is the SKU or the id the call is about. `resend` is False for a call that must never be sent again
    once it may have been applied.
    """

    method: str
    template: str
    path: str
    item: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    resend: bool = True

    @property
    def endpoint(self) -> str:
        """The method and the templated path, e.g. `PATCH /products/{id}/inventory`."""
        return f"{self.method} {self.template}"

    @property
    def asks_for_one(self) -> bool:
        """Whether it reads one product or order, or takes one off: one that is missing is an answer, no failed call."""
        return self.method in ("GET", "DELETE") and self.template.endswith("/{id}")

    @property
    def writes(self) -> bool:
        """Whether the call may change something."""
        return self.method != "GET"

    @property
    def subject(self) -> str:
        """The call in words: action and item."""
        return f"{self.endpoint} for {self.item}" if self.item else self.endpoint


def as_json(value: dict[str, Any]) -> bytes:
    """The body of a call."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def as_time(moment: datetime) -> str:
    """An aware moment as the contract writes it. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a moment sent to 4Seller needs an offset; give an aware datetime")
    return moment.isoformat()


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
    # a lone backslash, such as that of C:\parts, is meant as one
    text = ESCAPE.sub(lambda found: found[0] if found[1] else "\\\\", body.decode("utf-8-sig", "replace"))
    try:
        return writable_in(json.loads(text, strict=False, parse_constant=lambda _: None, parse_int=_integer))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


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
LONGEST_PAUSE = 120.0
"""Seconds after which a call tries again, however long a pause was asked for: the header may be wrong, or over early."""

LONGEST = 24 * 3600.0  # a pause beyond a day is a mistake of the server
OLDEST_DATE = 1e9  # a number from here on is a Unix time, in September 2001 or later
UNITS = (1.0, 1e3, 1e6, 1e9)  # of a Unix time: seconds, milliseconds, microseconds, nanoseconds
LONGEST_WORDS = 300  # characters of the server's own words that an error quotes

ITEM = (errors.BadItem, "4Seller refused {subject}: {words}. Correct the item, then retry it.")
KEY = (
    errors.BadCredentials,
    "4Seller refused the credentials ({status}): check FOURSELLER_API_KEY and FOURSELLER_SELLER_ID.",
)
REDIRECT = (  # following it would hand the key and the body to another address
    errors.BadCredentials,
    "{subject} was answered with a redirect ({status}), which is never followed: set FOURSELLER_API_URL to the address "
    "of the API itself.",
)
REFUSALS: dict[int, tuple[type[errors.FourSellerError], str]] = {
    **dict.fromkeys(range(300, 400), REDIRECT),
    400: ITEM,
    422: ITEM,
    401: KEY,
    403: KEY,
    404: (errors.NotFound, "4Seller does not have what {subject} is about."),
    409: (errors.Conflict, "4Seller refused {subject} as a conflict: {words}. Read it back first."),
}
"""What a status means, beside those of `sort`."""


def seconds_asked(header: str | None, now: datetime) -> float | None:
    """Seconds to wait from `now` by a Retry-After header; of a list its first entry that can be read.
    None when there is no header or it is not readable."""
    parts = [] if header is None else [header, *header.split(",")]  # whole first: a date has a comma in it
    for text in parts:
        try:
            seconds: float | None = float(text)
        except ValueError:
            until = date_of(text)
            seconds = None if until is None else (until - now).total_seconds()
        else:
            unix = (float(text) / unit for unit in UNITS)
            moment = next((one for one in unix if OLDEST_DATE <= one < 10 * OLDEST_DATE), None)
            seconds = seconds if moment is None else moment - now.timestamp()
        if seconds is not None and seconds == seconds:  # no NaN
            return min(max(seconds, 0.0), LONGEST)
    return None


@lru_cache(64)  # many answers of one second
def date_of(text: str) -> datetime | None:
    """The moment that a header names, as HTTP writes it or by ISO 8601; None when it names none."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text.strip())
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (TypeError, ValueError, IndexError, OverflowError):
            continue
    return None


EXPECTED = frozenset({200, 201, 204})


@dataclass
class AnswerSample:
    """Counts and times the answers of clients by call, and hands some of them on to be compared with the contract: one of
    `sample`, of reads the first too, for a process may make few, and each of an unexpected status."""

    sample: int  # 0 for none
    compare: Callable[[Call, Answer], None]
    seconds: dict[str, list[float]] = field(default_factory=dict)  # by call: how many answers, and how long
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
        if not body and call.method == "DELETE":
            return None
        try:
            return read_json(body)
        except ValueError:
            if call.method == "DELETE":
                return None  # 200 without a JSON body is still "removed"
            what = f"4Seller answered {status} with a body that is not JSON"
            raise lost(call, what, status=status) from None
    if status >= 500 or status == 408:
        raise lost(call, f"4Seller answered {status}", status=status)
    code, words = _error_in(body)
    if status == 429:
        asked = seconds_asked(answer.retry_after, answer.date or datetime.now(UTC))
        asked = PAUSE_UNASKED if asked is None else asked
        pause = min(asked, LONGEST_PAUSE)
        raise errors.RateLimited(
            f"4Seller limits the rate and asks for a pause of {asked:g} s: {call.subject} may be sent again in "
            f"{pause:g} s.",
            retry_after_seconds=pause,
            asked_seconds=asked,
            item=call.item,
            status=status,
            code=code,
        )
    if status not in REFUSALS:
        what = f"4Seller answered {call.subject} with status {status}, which the contract does not know."
        raise errors.ContractBroken(what, field="status", item=call.item, status=status)
    kind, sentence = REFUSALS[status]
    if not words or not call.template.startswith("/products"):  # about an order they may name the buyer
        words = "it gave no reason"
    sentence = sentence.format(subject=call.subject, status=status, words=words)
    raise kind(sentence, item=call.item, status=status, code=code)


def read(call: Call, reader: Callable[[Any], Read], answer: Any) -> Read:
    """The answer as the reader types it. Raises ContractBroken naming the call and the field; Ambiguous in its place
    where the call must not be sent twice, because something was created and only a look-up shows what."""
    try:
        return reader(answer)
    except errors.ContractBroken as broken:
        if not call.resend:
            raise errors.Ambiguous(
                f"{call.subject} was answered, but {broken} Look before sending it again.", item=call.item
            ) from None
        raise errors.ContractBroken(f"{call.subject}: {broken}", field=broken.field, item=call.item) from None


def lost(call: Call, what: str, *, status: int | None = None) -> errors.FourSellerError:
    """The error of a call that got no usable answer: ambiguous for a write, which may have been applied."""
    if call.writes:
        return errors.Ambiguous(
            f"{what} to {call.subject}: it may have been applied; look before sending it again.",
            item=call.item,
            status=status,
        )
    return errors.Unavailable(f"{what} to {call.subject}; try again later.", item=call.item, status=status)


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
