"""The blind index: keyed digests of e-mail, phone, name and account, by which a sealed payload is found.

They stand before the payload that they describe, so that they are written, rotated and erased with it.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

KINDS = ("email", "phone", "name", "account")
EMAIL = re.compile(r"[^\s@<>\"',;:()]+@[^\s@<>\"',;:()]+")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PHONE = frozenset({"phone", "tel", "telephone", "mobile", "cell", "fax"})
_NAME = frozenset({"name", "fullname", "recipient", "addressee", "buyer", "contact"})
_OF_THINGS = frozenset(
    [
        "company",
        "product",
        "item",
        "sku",
        "brand",
        "carrier",
        "file",
        "country",
        "state",
        "city",
        "method",
        "shop",
        "store",
        "channel",
    ]
)
_ACCOUNT = frozenset({"username", "userid", "buyerid", "customerid", "nickname", "eiastoken"})
PHONE_DIGITS = 9
"""Phones are compared by their last digits, since a country code may be there or not."""


def normal(kind: str, text: str) -> str:
    """The text as it is compared: spelling, case, blanks, signs and the order of names do not count."""
    text = unicodedata.normalize("NFKC", text).casefold().strip()
    if kind == "phone":
        return "".join(re.findall(r"\d", text))[-PHONE_DIGITS:]
    if kind == "name":
        return " ".join(sorted(re.findall(r"\w+", text)))
    return text


def digest_of(kind: str, text: str, key: bytes) -> str | None:
    """The digest of what a person gives to be found by; None where nothing is left to compare."""
    found = normal(kind, text)
    return f"{kind[0]}{hmac.digest(key, f'{kind}:{found}'.encode(), 'sha256').hex()[:24]}" if found else None


def digests(payload: Any, key: bytes) -> list[str]:
    """The digests of everyone whom a payload names, each once."""
    found = {digest_of(kind, text, key) for kind, text in identifiers(payload)}
    return sorted(one for one in found if one is not None)


def identifiers(payload: Any) -> Iterator[tuple[str, str]]:
    """What a person may be found by, as (kind, text): by the name of the field, and e-mail addresses in any text."""
    parts: list[tuple[str, Any]] = [("", payload)]
    while parts:
        name, value = parts.pop()
        if isinstance(value, dict):
            parts += [(str(key), part) for key, part in value.items()]
            first, last = (value.get(f"{one}_name") or value.get(f"{one}Name") for one in ("first", "last"))
            if first and last:
                yield "name", f"{first} {last}"
        elif isinstance(value, list):
            parts += [(name, part) for part in value]
        elif isinstance(value, str | int) and not isinstance(value, bool):
            yield from _of_field(name, str(value))


def _of_field(name: str, text: str) -> Iterator[tuple[str, str]]:
    words = [word.lower() for word in _WORD.findall(name)]
    for address in EMAIL.findall(text):
        yield "email", address
    if not _PHONE.isdisjoint(words):
        yield "phone", text
    if "".join(words) in _ACCOUNT:
        yield "account", text
    elif not _NAME.isdisjoint(words) and _OF_THINGS.isdisjoint(words):
        yield "name", text
