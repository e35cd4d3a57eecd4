"""Reads the Retry-After header: seconds, a date, or a Unix time."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_PAUSE = 120.0
"""Seconds after which a call tries again, however long a pause was asked for: the header may be wrong, or over early."""

LONGEST = 24 * 3600.0  # a pause beyond a day is a mistake of the server
OLDEST_DATE = 1e9  # a number from here on is a Unix time, in September 2001 or later
UNITS = (1.0, 1e3, 1e6, 1e9)  # of a Unix time: seconds, milliseconds, microseconds, nanoseconds


def seconds_asked(header: str | None, now: datetime) -> float | None:
    """Seconds to wait from `now` by a Retry-After header; of a list its first entry that can be read.
    None when there is no header or it is not readable."""
    parts = [header, *header.split(",")] if header is not None else []
    for text in parts:  # whole first: an HTTP date has a comma in it
        seconds = _number(text, now) if _is_number(text) else _until(text, now)
        if seconds is not None:
            return min(max(seconds, 0.0), LONGEST)
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str, now: datetime) -> float | None:
    number = float(text)
    if number != number:  # NaN
        return None
    for unit in UNITS:
        if OLDEST_DATE <= number / unit < 10 * OLDEST_DATE:
            return number / unit - now.timestamp()
    return number


def _until(text: str, now: datetime) -> float | None:
    moment = date_of(text)
    return None if moment is None else (moment - now).total_seconds()


def date_of(text: str) -> datetime | None:
    """The moment that a header names, as HTTP writes it or by ISO 8601; None when it names none."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text.strip())
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (TypeError, ValueError, IndexError, OverflowError):
            continue
    return None
