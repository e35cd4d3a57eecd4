"""The pause a 429 asks for, in both forms HTTP knows."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 24 * 3600.0  # a pause beyond a day is a mistake of the server, and is asked about again after one


def seconds_asked(header: str | None, now: datetime) -> float | None:
    """Seconds to wait from `now` by a Retry-After header: whole or decimal seconds, or an HTTP date.
    None when there is no header or it says neither."""
    if header is None:
        return None
    text = header.strip()
    seconds: float | None
    try:
        seconds = float(text)
    except ValueError:
        seconds = _until(text, now)
    if seconds is None or seconds != seconds:  # NaN is no pause
        return None
    return min(max(seconds, 0.0), LONGEST)


def _until(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()
