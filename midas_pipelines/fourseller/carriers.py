"""Tracking numbers: for each carrier the pattern of its numbers and its tracking page. Pure.

A number that does not match may belong to another of the carrier's services: it is passed on as given, with a remark. A
carrier that is not in the table is accepted by its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.models import Tracking

LONGEST_NUMBER, LONGEST_PAGE = 100, 500  # characters; the contract's and our columns'
S10 = "[A-Z]{2}[0-9]{9}[A-Z]{2}"  # the form of postal services' numbers (UPU standard S10)


@dataclass(frozen=True, slots=True)
class Carrier:
    """A carrier: its names, its own spelling first, of which letters count; the address of its tracking page without the number;
    the pattern of its numbers."""

    names: tuple[str, ...]
    page: str
    numbers: str

    def remark(self, number: str) -> str | None:
        """What is odd about the number, in a sentence; None for one that matches the pattern."""
        if re.fullmatch(self.numbers, number):
            return None
        return f"{number} does not look like a {self.names[0]} number; compare it with the label."


_USPS = f"(420[0-9]{{5}}([0-9]{{4}})?)?9[1-5][0-9]{{20}}([0-9]{{4}})?|[0-9]{{20}}|{S10}"
_FEDEX = "[0-9]{12}|[0-9]{15}|[0-9]{18}|[0-9]{20}|9[26][0-9]{20}|[0-9]{34}"
_DHL = "[0-9]{10,11}|JJ?D[0-9A-Z]{9,28}|J[A-Z]GL[0-9]{10}|GM[0-9]{16,20}"
_CANADA = "https://www.canadapost-postescanada.ca/track-reperage/en#/search?searchFor="
_UNITED = ("USPS", "US Postal Service", "United States Postal Service")
CARRIERS = (
    Carrier(("UPS", "United Parcel Service"), "https://www.ups.com/track?tracknum=", "1Z[0-9A-Z]{15}[0-9]"),
    Carrier(_UNITED, "https://tools.usps.com/go/TrackConfirmAction?tLabels=", _USPS),
    Carrier(("FedEx", "Federal Express"), "https://www.fedex.com/fedextrack/?trknbr=", _FEDEX),
    Carrier(("DHL", "DHL Express"), "https://www.dhl.com/en/express/tracking.html?AWB=", _DHL),
    Carrier(("Royal Mail",), "https://www.royalmail.com/track-your-item#/tracking-results/", S10),
    Carrier(("China Post",), "https://www.17track.net/en/track?nums=", S10),
    Carrier(("Canada Post",), _CANADA, f"[0-9]{{16}}|{S10}"),
)
_BY_NAME = {re.sub(r"[^a-z]", "", name.lower()): carrier for carrier in CARRIERS for name in carrier.names}
"""By the letters of their names, in lower case."""


class BadTracking(WrongInput):
    """The shipment has no usable carrier, number or tracking page; the message says why."""

    http_status = 422


def tracking(carrier: str, number: str, *, url: str | None = None, force: bool = False) -> Tracking:
    """The carrier's proper name, the bare number, and `url` or the carrier's own page, to push to 4Seller; raises
    BadTracking. `force` accepts a number that does not match the carrier's pattern."""
    bare, known = bare_number(number), find_carrier(carrier)
    if not carrier.strip() or not bare:
        raise BadTracking("A shipment needs a carrier and a tracking number.")
    if len(bare) > LONGEST_NUMBER or not (bare.isascii() and bare.isprintable() and re.search("[0-9]", bare)):
        plain = f"up to {LONGEST_NUMBER} plain characters with a digit"
        raise BadTracking(f"'{number[:120]}' is no tracking number: {plain}.")
    if url is not None and usable_page(url) is None:
        limit = f"of up to {LONGEST_PAGE} characters"
        raise BadTracking(f"The tracking page must be an address with https://, {limit}.")
    if known is not None:
        if not force and (remark := known.remark(bare)):
            raise BadTracking(f"{remark} `force` accepts it.")
        return Tracking(carrier=known.names[0], number=bare, url=url or known.page + quote(bare))
    spaced = " ".join(number.split())
    shown = spaced if len(spaced) <= LONGEST_NUMBER else bare
    return Tracking(carrier=" ".join(carrier.split())[:50], number=shown, url=url)


def recorded_tracking(carrier: Any, number: Any, url: Any) -> tuple[Tracking, str | None]:
    """The tracking data in columns of the shop's, which may hold bytes on SQLite, and a remark on an unusual number. Raises
    BadTracking: there is no carrier or no number."""
    carrier, number, url = (one if isinstance(one, str) else "" for one in (carrier, number, url))
    label, known = tracking(carrier, number, url=usable_page(url), force=True), find_carrier(carrier)
    return label, known.remark(label.number or "") if known else None


def bare_number(number: str) -> str:
    """The number without spaces and hyphens, in capitals, so that two spellings compare as equal."""
    return re.sub(r"[\s-]+", "", number).upper()


def find_carrier(name: str) -> Carrier | None:
    """The carrier of that name, with or without a service after it, as in UPS Ground or FEDEX_GROUND."""
    words = [re.sub(r"[^a-z]", "", word) for word in re.split(r"[\W_]+", name.lower())]
    beginnings = ("".join(words[:count]) for count in range(len(words), 0, -1))
    return next((_BY_NAME[letters] for letters in beginnings if letters in _BY_NAME), None)


def usable_page(url: str | None) -> str | None:
    """The address if it is a complete http or https address; None otherwise."""
    complete = re.compile(r"https?://[a-z0-9][!-~]*", re.ASCII | re.IGNORECASE)
    return url if url and len(url) <= LONGEST_PAGE and complete.fullmatch(url) else None
