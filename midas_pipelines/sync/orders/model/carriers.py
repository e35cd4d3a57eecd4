"""Tracking numbers: each carrier's formats, check digits and tracking page. Pure.

Formats: UPS 1Z numbers, USPS IMpb, FedEx Express, Ground and SSCC-18, DHL Express waybills, Canada Post, and the postal
form of UPU standard S10. A carrier that is not in the table is accepted unchecked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.models import Tracking

LONGEST_NUMBER, LONGEST_PAGE = 100, 500
"""Characters; the contract's and our columns'."""
S10 = re.compile(r"[A-Z]{2}[0-9]{9}[A-Z]{2}")
S10_WEIGHTS = (8, 6, 4, 2, 3, 5, 9, 7)


class BadTracking(WrongInput):
    """The shipment's tracking data are invalid; the message says why.

    Args:
        why: a sentence.
        doubtful: whether it only fails the carrier's public formats, which a person may override.
        mistyped: whether it has a format that no other service shares, and a wrong check digit.
    """

    http_status = 422

    def __init__(self, why: str, *, doubtful: bool = False, mistyped: bool = False) -> None:
        super().__init__(f"{why} `force` accepts it." if doubtful else why)
        self.why, self.doubtful, self.mistyped = why, doubtful, mistyped


@dataclass(frozen=True, slots=True)
class Carrier:
    """A carrier with public formats: each a pattern and, where the last digit is a check digit, its rule."""

    name: str
    page: str
    formats: tuple[tuple[re.Pattern[str], Callable[[str], bool] | None], ...]


def tracking(carrier: str, number: str, *, url: str | None = None, force: bool = False) -> Tracking:
    """The tracking data to push to 4Seller: the carrier's proper name, the bare number, the tracking page.

    Args:
        carrier: as a person writes it.
        number: spaces and hyphens do not matter.
        url: replaces the carrier's own page.
        force: accepts a number that matches none of the carrier's formats.

    Raises:
        BadTracking: the number or the page is invalid.
    """
    bare, known = bare_number(number), find_carrier(carrier)
    if not carrier.strip() or not bare:
        raise BadTracking("A shipment needs a carrier and a tracking number.")
    if len(bare) > LONGEST_NUMBER or not bare.isascii() or not bare.isprintable():
        raise BadTracking(f"'{number[:120]}' is no tracking number: up to {LONGEST_NUMBER} plain characters.")
    if url is not None and usable_page(url) is None:
        raise BadTracking(
            f"The tracking page must be an address with https://, of up to {LONGEST_PAGE} characters."
        )
    if known is None:
        spaced = " ".join(number.split())
        shown = spaced if len(spaced) <= LONGEST_NUMBER else bare
        return Tracking(carrier=" ".join(carrier.split())[:50], number=shown, url=url)
    if not force:
        _check(known, bare)
    return Tracking(carrier=known.name, number=bare, url=url or known.page + quote(bare))


def recorded_tracking(row: Any) -> tuple[Tracking, str | None]:
    """The tracking data of a row of `order_shipments`, and a remark where its number looks wrong.

    A number in an unknown format may belong to another of the carrier's services, so it is pushed unchanged. A number
    recorded through us was confirmed by a person.

    Raises:
        BadTracking: there is no number, or the shop's code recorded one that is certainly mistyped.
    """
    # SQLite accepts bytes in a text column
    columns = (row.carrier, row.tracking_number, row.tracking_url)
    carrier, number, url = (one if isinstance(one, str) else "" for one in columns)
    page = usable_page(url)
    try:
        return tracking(carrier, number, url=page), None
    except BadTracking as bad:
        from_shop = row.source == "shop"
        if not bad.doubtful or (from_shop and (bad.mistyped or not any(map(str.isdigit, number)))):
            raise
        remark = bad.why if from_shop else None
        return tracking(carrier, number, url=page, force=True), remark


def bare_number(number: str) -> str:
    """The number without spaces and hyphens, in capitals, so that two spellings compare as equal."""
    return re.sub(r"[\s-]+", "", number).upper()


def find_carrier(name: str) -> Carrier | None:
    """The carrier of that name, with or without a service after it, as in UPS Ground or FEDEX_GROUND."""
    words = [re.sub(r"[^a-z]", "", word) for word in re.split(r"[\W_]+", name.lower())]
    beginnings = ("".join(words[:count]) for count in range(len(words), 0, -1))
    return next((CARRIERS[letters] for letters in beginnings if letters in CARRIERS), None)


def usable_page(url: str | None) -> str | None:
    """The address if it is a complete http or https address; None otherwise."""
    if not url or len(url) > LONGEST_PAGE or not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.netloc else None


def _check(carrier: Carrier, number: str) -> None:
    matching = [rule for pattern, rule in carrier.formats if pattern.fullmatch(number)]
    if not matching:
        raise BadTracking(
            f"{number} does not look like a {carrier.name} number; compare it with the label.",
            doubtful=True,
        )
    if not any(rule is None or rule(number) for rule in matching):
        raise BadTracking(
            f"{number} is mistyped: its {carrier.name} check digit does not match. Compare it with the label.",
            doubtful=True,
            mistyped=not number.isdigit(),  # digits alone may belong to another service
        )


def ups_check(number: str) -> bool:
    """UPS: letters count from A = 2, every second character counts twice, the last digit completes a multiple of ten."""
    values = [int(char) if char.isdigit() else (ord(char) - 63) % 10 for char in number[2:]]
    total = sum(value * (2 if place % 2 else 1) for place, value in enumerate(values[:-1]))
    return (10 - total % 10) % 10 == values[-1]


def mod10_check(number: str) -> bool:
    """USPS and FedEx Ground: digits weighted 3 and 1 from the right, the last completes a multiple of ten."""
    digits = [int(char) for char in reversed(number)]
    total = sum(digit * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits[1:]))
    return (10 - total % 10) % 10 == digits[0]


def fedex_express_check(number: str) -> bool:
    """FedEx Express: weights 3, 1, 7; the remainder modulo 11, with 10 counting as 0."""
    weights = (3, 1, 7) * 4
    total = sum(int(char) * weight for char, weight in zip(number[:-1], weights, strict=False))
    return total % 11 % 10 == int(number[-1])


def dhl_check(number: str) -> bool:
    """DHL Express: the leading digits modulo 7."""
    return int(number[:-1]) % 7 == int(number[-1])


def s10_check(number: str) -> bool:
    """Postal services (S10): weights 8 6 4 2 3 5 9 7, 11 minus the remainder modulo 11; 10 counts as 0 and 11 as 5."""
    total = sum(int(char) * weight for char, weight in zip(number[2:10], S10_WEIGHTS, strict=True))
    wanted = 11 - total % 11
    return {10: 0, 11: 5}.get(wanted, wanted) == int(number[10])


_S10 = (S10, s10_check)
_UPS = Carrier(
    "UPS", "https://www.ups.com/track?tracknum=", ((re.compile(r"1Z[0-9A-Z]{15}[0-9]"), ups_check),)
)
_USPS = Carrier(
    "USPS",
    "https://tools.usps.com/go/TrackConfirmAction?tLabels=",
    (
        (re.compile(r"[0-9]{20}"), lambda number: mod10_check(number) or mod10_check("91" + number)),
        (re.compile(r"9[1-5][0-9]{20}|9[2-5][0-9]{24}"), mod10_check),
        (re.compile(r"420[0-9]{5}([0-9]{4})?9[1-5][0-9]{20}"), lambda number: mod10_check(number[-22:])),
        _S10,
    ),
)
_FEDEX = Carrier(
    "FedEx",
    "https://www.fedex.com/fedextrack/?trknbr=",
    (
        (re.compile(r"[0-9]{12}"), fedex_express_check),
        (re.compile(r"[0-9]{15}|[0-9]{18}|92[0-9]{20}"), mod10_check),
        (re.compile(r"96[0-9]{20}"), lambda number: mod10_check(number[-15:])),
        (re.compile(r"[0-9]{34}"), lambda number: fedex_express_check(number[-12:])),
        (re.compile(r"[0-9]{20}"), None),
    ),
)
_DHL = Carrier(
    "DHL",
    "https://www.dhl.com/en/express/tracking.html?AWB=",
    (
        (re.compile(r"[0-9]{10,11}"), dhl_check),
        (re.compile(r"JJ?D[0-9A-Z]{9,28}|J[A-Z]GL[0-9]{10}|GM[0-9]{16,20}"), None),
    ),
)
_POSTS = {
    "royalmail": Carrier(
        "Royal Mail", "https://www.royalmail.com/track-your-item#/tracking-results/", (_S10,)
    ),
    "chinapost": Carrier("China Post", "https://www.17track.net/en/track?nums=", (_S10,)),
    "canadapost": Carrier(
        "Canada Post",
        "https://www.canadapost-postescanada.ca/track-reperage/en#/search?searchFor=",
        ((re.compile(r"[0-9]{16}"), mod10_check), _S10),
    ),
}
CARRIERS: dict[str, Carrier] = {
    "ups": _UPS,
    "unitedparcelservice": _UPS,
    "usps": _USPS,
    "uspostalservice": _USPS,
    "unitedstatespostalservice": _USPS,
    "fedex": _FEDEX,
    "federalexpress": _FEDEX,
    "dhl": _DHL,
    "dhlexpress": _DHL,
    **_POSTS,
}
"""By the letters of their names, in lower case."""
