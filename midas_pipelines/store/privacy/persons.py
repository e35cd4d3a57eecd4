"""Which fields of a payload name a person: by their keyed digests it is found, and none of them is shown.

The digests, of e-mail, phone, name and account, are before the sealed payload that they describe, so that they are written,
rotated and erased with it: a blind index.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache
from itertools import repeat
from typing import Any

KINDS = ("email", "phone", "name", "account")
EMAIL = re.compile(r"[^\s@<>\"',;:()]+@[^\s@<>\"',;:()]+")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PHONE = frozenset({"phone", "tel", "telephone", "mobile", "cell", "fax"})
_NAME = frozenset({"name", "fullname", "recipient", "addressee", "buyer", "contact"})
_OF_THINGS = frozenset({
    "company", "product", "item", "sku", "brand", "carrier", "file", "country", "state", "city", "method", "shop",
    "store", "channel",
})  # fmt: skip
_ACCOUNT = frozenset({"username", "userid", "buyerid", "customerid", "nickname", "eiastoken"})
PHONE_DIGITS = 9
"""Phones are compared by their last digits, since a country code may be there or not."""


def normal(kind: str, text: str) -> str:
    """The text as it is compared: spelling, case, blanks, signs and the order of names do not count."""
    text = (text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold().strip()
    if kind == "phone":
        return re.sub(r"\D", "", text)[-PHONE_DIGITS:]
    if kind == "name":
        return " ".join(sorted(re.findall(r"\w+", text)))
    return text


def digest_of(kind: str, text: str, key: bytes) -> str | None:
    """The digest of what a person gives to be found by; None where nothing is left to compare."""
    found = normal(kind, text)
    if not found:
        return None
    return kind[0] + hashlib.blake2b(f"{kind}:{found}".encode(), key=key, digest_size=12).hexdigest()


def digests(payload: Any, key: bytes) -> list[str]:
    """The digests of everyone whom a payload names, each once."""
    found = {digest_of(kind, text, key) for kind, text in identifiers(payload)}
    return sorted(one for one in found if one is not None)


def identifiers(payload: Any) -> list[tuple[str, str]]:
    """What a person may be found by, as (kind, text): by the name of the field, and e-mail addresses in any text."""
    found: list[tuple[str, str]] = []
    parts: list[tuple[str, Any]] = [("", [payload])]
    while parts:
        name, value = parts.pop()
        for key, part in value.items() if value.__class__ is dict else zip(repeat(name), value):
            kind = part.__class__
            if kind is str:
                if "@" in part:
                    found += [("email", address) for address in EMAIL.findall(part)]
                for named in _kinds_of(key):
                    found.append((named, part))
            elif kind is dict or kind is list:
                parts.append((key, part))
            elif kind is int:
                found += [(named, str(part)) for named in _kinds_of(key)]
        if value.__class__ is dict:
            first = value.get("first_name") or value.get("firstName")
            last = value.get("last_name") or value.get("lastName")
            if first and last:
                found.append(("name", f"{first} {last}"))
    return found


@lru_cache(maxsize=2000)
def _kinds_of(name: str) -> tuple[str, ...]:
    """What a field of this name holds of a person, beside e-mail addresses."""
    words = [word.lower() for word in _WORD.findall(name)]
    phone = () if _PHONE.isdisjoint(words) else ("phone",)
    if "".join(words) in _ACCOUNT:
        return (*phone, "account")
    named = not _NAME.isdisjoint(words) and _OF_THINGS.isdisjoint(words)
    return (*phone, "name") if named else phone


SHOWN = frozenset({
    "type", "timestamp", "id", "sku", "product_id", "order_id", "title", "description", "status", "currency",
    "price", "total", "shipping_cost", "tax", "discount", "quantity", "track_quantity", "created_at", "updated_at",
    "sales_channel", "carrier", "category", "brand", "condition", "weight", "dimensions", "color", "size",
    "country", "forgotten",
})  # fmt: skip
"""Fields of the contract without personal data."""

MASKED = "(hidden)"
MOST = 500


def without_persons(payload: Any, *, field: str = "") -> Any:
    """The payload with every value masked but those of known fields; names of unknown fields are masked too."""
    if isinstance(payload, dict):
        parts = list(payload.items())[:MOST]
        return {
            _named(str(name), place): without_persons(part, field=str(name))
            for place, (name, part) in enumerate(parts)
        }
    if isinstance(payload, list):
        return [without_persons(part, field=field) for part in payload[:MOST]]
    return payload if payload is None or isinstance(payload, bool) or field in SHOWN else MASKED


def _named(name: str, place: int) -> str:
    """The field's name where it is one that a program gives, such as `postal_code`; a value may be used as a name."""
    return (
        name
        if name.isascii() and name.isidentifier() and name.islower() and len(name) <= 30
        else f"field {place + 1}"
    )
