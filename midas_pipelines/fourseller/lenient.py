"""Reads hub values leniently, one at a time.

Each reader returns the value, None for one that is missing (empty, masked), or raises ValueError for one that cannot
be read. What is sent is checked at the end: an id in a path, the value of a header.
"""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from midas_pipelines.fourseller.errors import BadItem

Number = TypeVar("Number", int, Decimal)
LARGEST = 2**31 - 1  # what the contract lets a quantity be

MISSING_WORDS = frozenset(["n/a", "null", "none", "nil", "undefined", "nan"])
MASK = re.compile(r"[\W_]*|[\W_]*[xX]{4,}[\W_]*")  # no letter and no digit, or nothing but a row of x
PARTLY_MASKED = re.compile(
    r"[*•]{2,}|(?<!\w)[xX]{4,}(?![A-Za-z])|(?<!\w)[xX]{3}-|^[\W_]*[xX]{3}[\W_]*$|^0[0\W_]+$"
)
WITHHELD = MISSING_WORDS | {"redacted", "masked", "removed", "deleted", "hidden", "withheld", "undisclosed"}
WITHHELD_ALONE = re.compile(
    "n a( n a)*|private|confidential|protected|anonymous|anonymi[sz]ed|unknown|tbd|blank|empty|missing|object object|false|"
    "(data|pii|info|name|address|removed|deleted) (removed|deleted|redacted|by request)|none given|"
    "no (name|data|address|value)|not (available|provided|applicable|given|set|specified|disclosed|shown|known)"
)
"""What hubs put in place of a buyer's text: words each of which says so, and phrases."""
OTHER_THAN_A_TO_Z, WORDS = re.compile(r"[^\W_a-z]"), re.compile("[a-z]+")
PLAIN = re.compile(
    r"[+(]?0*[1-9]|(?!(?:n|na|nan|nil|none|not?|null|name|undefined|undisclosed|unknown|redacted|removed|masked|missing|"
    "deleted|data|hidden|withheld|private|protected|pii|confidential|anonymi[sz]ed|anonymous|address|tbd|blank|empty|"
    "object|false|info)(?![a-z]))[a-z]"
)
"""How a text of ASCII in small letters begins that is none of these: for the quick look at most texts."""

SYMBOL = r"(?:[A-Za-z]{0,3}\s*[$€£¥₹₩₽]?)"
AMOUNT = re.compile(
    rf"\s*{SYMBOL}\s*([-+−]?)\s*{SYMBOL}\s*(\d[\d.,'’\s]*|[.,]\d+)\s*[$€£¥₹₩₽]?\s*[A-Za-z]{{0,3}}\s*"
)
NO_ADDRESS = re.compile(r"[\x00\ud800-\udfff\ufffd]")  # U+FFFD replaces what could not be read
ZONE = re.compile(r"\s*(?:UTC|GMT|Z)$|\s+(?=[+-]\d\d:?\d\d$)")
UNIX = re.compile(r"\d{1,20}(\.\d+)?")
MONTH = re.compile(r"\d ?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)", re.IGNORECASE)
YEARS = range(2000, 2100)  # a moment outside is a default of some program (0001, 1900, 1970), or a misreading
GUESSED = (946_684_800, 2_208_988_800)
"""2000 to 2040 in Unix seconds: a number outside is no moment, whatever it is."""


def is_missing(text: str) -> bool:
    """Whether a text is empty, blank, masked, or a placeholder such as `N/A` or `null`."""
    return MASK.fullmatch(text) is not None or text.strip().lower() in MISSING_WORDS


def read_text(value: Any) -> str | None:
    """A text; a number becomes its digits, a false or empty value is missing."""
    if isinstance(value, str):
        return value
    if value is None or value is False or value == [] or value == {}:
        return None
    return _digits(value)


def read_said(value: Any) -> str | None:
    """A text of an order, in which an empty or masked value is missing."""
    text = value if isinstance(value, str) else read_text(value)
    return None if text is None or is_missing(text) else text


def read_personal(value: Any) -> str | None:
    """A text about the buyer, in which a partly masked value (`J*** D***`) or one withheld (`[REDACTED]`) is missing too."""
    if value.__class__ is str and value.isascii():
        plain = value.lower()
        if PLAIN.match(plain) and "**" not in plain and "xxx" not in plain:
            return str(value)
    text = read_said(value)
    if text is None or PARTLY_MASKED.search(text):
        return None
    plain = unicodedata.normalize("NFKC", text).lower()
    if OTHER_THAN_A_TO_Z.search(plain):  # a digit, or a letter of another alphabet
        return text
    words = WORDS.findall(plain)
    return None if WITHHELD.issuperset(words) or WITHHELD_ALONE.fullmatch(" ".join(words)) else text


def read_id(value: Any) -> str | None:
    """An id, the same however it is spelled: 700001, 700001.0 and "700001" are one. A 0 that is no text is missing."""
    return read_said(value) if value or isinstance(value, str) else None


def read_product_id(value: Any) -> str | None:
    """An id by which a product can be asked for; without one nothing of it can ever be changed."""
    read = read_id(value)
    if read is not None and NO_ADDRESS.search(read):
        raise ValueError("is no address")
    return read


def read_sku(value: Any) -> str | None:
    """A SKU: an id in which a word such as `NONE` may be one all the same."""
    if isinstance(value, str):
        return None if MASK.fullmatch(value) else value
    return read_id(value)


def id_in(part: dict[str, Any], name: str) -> str | None:
    """The id under this name; None where there is none that can be read."""
    try:
        return read_id(part.get(name))
    except ValueError:
        return None


def _digits(value: Any) -> str:
    finite = math.isfinite(value) if isinstance(value, float) else isinstance(value, int)
    if isinstance(value, bool) or not finite:
        raise ValueError("is no text")
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return str(whole)  # raises ValueError beyond thousands of digits


def read_money(value: Any) -> Decimal | None:
    """An amount: a number, or a text with a currency and separators (`$1,010.00`, `1.010,00 EUR`, `12,50`)."""
    if isinstance(value, dict):  # {"amount": "10.00", "currency": "USD"}
        value = value.get("amount", value.get("value", value or None))
    text = str(value) if isinstance(value, str | Decimal) else read_text(value)
    if text is None or is_missing(text):
        return None
    try:
        amount = Decimal(text)
    except ArithmeticError:
        found = AMOUNT.fullmatch(text)
        if found is None:
            raise ValueError("is no amount") from None
        sign, number = found[1].replace("−", "-"), re.sub(r"['’\s]", "", found[2])
        amount = Decimal(sign + _with_point(number))
    if not amount.is_finite():
        raise ValueError("is no amount")
    return amount


def _with_point(number: str) -> str:
    """The number with a point before its fraction and no other separator. Of two kinds the last is the point; one
    kind alone separates thousands where it occurs several times, or is a comma before exactly three digits."""
    point = max(number.rfind("."), number.rfind(","))
    if point < 0:
        return number
    mark = number[point]
    alone = number.count("." if mark == "," else ",") == 0
    thousands = re.fullmatch(r"[1-9]\d{0,2}(?:[.,]\d{3})+", number) and (
        mark == "," or number.count(mark) > 1
    )
    if alone and thousands:
        return number.replace(mark, "")
    if number.count(mark) > 1:
        raise ValueError("is no amount")
    return re.sub(r"[.,]", "", number[:point]) + "." + number[point + 1 :]


def read_price(value: Any) -> Decimal | None:
    """A price of a product: an amount that is not negative."""
    return _not_negative(read_money(value))


def read_whole(value: Any) -> int | None:
    """A whole number, within what a column holds."""
    if value.__class__ is not int:
        amount = read_money(value)
        if amount is None:
            return None
        if amount.adjusted() > 10 or amount != amount.to_integral_value():
            raise ValueError("is no whole number")
        value = int(amount)
    if not -LARGEST - 1 <= value <= LARGEST:
        raise ValueError("is too large a number")
    return int(value)


def read_count(value: Any) -> int | None:
    """A quantity on sale: a whole number that is not negative."""
    return _not_negative(read_whole(value))


def _not_negative(number: Number | None) -> Number | None:
    if number is not None and number < 0:
        raise ValueError("is below zero")
    return number


def read_flag(value: Any) -> bool | None:
    """A yes or no."""
    if value is None or isinstance(value, bool):
        return value
    if value in (0, 1, "0", "1"):
        return bool(int(value))
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ValueError("is no yes or no")


def read_time(value: Any) -> datetime | None:
    """A moment in UTC: ISO 8601, RFC 822, or Unix seconds or milliseconds. Without an offset it is taken for UTC."""
    if isinstance(value, datetime):
        return _in_utc(value)
    if value is None or value is False or value == []:
        return None
    text = value.strip() if isinstance(value, str) else _digits(value)
    if text[4:5] == "-":
        try:
            return _in_utc(datetime.fromisoformat(text))
        except ValueError:
            pass  # written in another way
    if not text.strip("0-:TZ. ") or is_missing(text):  # 0000-00-00 00:00:00
        return None
    if UNIX.fullmatch(text):
        seconds = float(text) / 1000 if float(text) >= GUESSED[1] else float(text)
        if not GUESSED[0] <= seconds < GUESSED[1]:
            raise ValueError("is no moment")
        return datetime.fromtimestamp(seconds, UTC)
    if MONTH.search(text):
        return _in_utc(parsedate_to_datetime(text))
    spelled = ZONE.sub(lambda zone: "+00:00" if zone[0].strip() else "", text.replace("/", "-"))
    spelled = spelled.replace(":60", ":59")  # a leap second counts as the one before it
    return _in_utc(datetime.fromisoformat(spelled))


def _in_utc(moment: datetime) -> datetime:
    try:
        if moment.tzinfo is not UTC:
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:  # year 1 or 9999, moved over its edge by the offset
        raise ValueError("is no moment") from None
    if moment.year not in YEARS:
        raise ValueError("is no moment that an order or a product can have")
    return moment


def read_object(value: Any) -> Any:
    """An object; a list of one object is that one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) or value is None:
        return value
    if value is False or (isinstance(value, str) and is_missing(value)):
        return None
    raise ValueError("is no object")


def read_rows(value: Any) -> list[Any]:
    """A list without its empty places; an object of objects is the list of them, any other object the only row."""
    if isinstance(value, dict):
        inner = list(value.values())
        value = inner if all(isinstance(row, dict) for row in inner) else [value]
    if value is None or value is False or (isinstance(value, str) and is_missing(value)):
        return []
    if not isinstance(value, list):
        raise ValueError("is no list")
    return [row for row in value if row not in (None, "", False, [])]


def read_image(value: Any) -> Any:
    """A picture; a text is its address."""
    image = {"url": value} if isinstance(value, str) else read_object(value)
    if not (image and isinstance(image.get("url"), str)):
        raise ValueError("is no picture")
    return image


def segment(value: str) -> str:
    """An id as one segment of a path. Raises BadItem for one that a server might take for another address."""
    if not value or NO_ADDRESS.search(value) or {".", ".."} & set(re.split(r"[/\\;]", unquote(value))):
        raise BadItem("An id that is empty, a path or not printable cannot be asked for; nothing was sent.")
    return quote(value, safe="")


def ascii_value(value: str, what: str) -> str:
    """A header's value. Raises ValueError, without quoting it, when it cannot be one."""
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"{what} is empty or holds characters that no HTTP header may carry; set it again.")
    return value
