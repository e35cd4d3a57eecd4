"""The payload vault: keeps what a marketplace sent, for replay and proof, sealed.

Each payload has a data key of its own (AES-256-GCM), which the master key wraps. It is one text,
`aes1:ID OF THE MASTER KEY:DIGESTS:WRAPPED DATA KEY:PAYLOAD`; the digests, of e-mail, phone, name and account,
find a person: a blind index.
A rotation wraps the data keys again under the newest master key and makes the digests again, while everything runs; the
sealed payloads stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from binascii import a2b_base64, b2a_base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from midas_pipelines.errors import ExpectedError
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.privacy.keys import KeyRing, key_ring
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.text import to_json

SEALED = "aes1:"
PLAIN = "plain:"
ERASED = {"erased": True}
"""Stored in place of an erased buyer."""
ERASED_PAYLOAD = PLAIN + to_json(ERASED)

NONCE_BYTES = 12
FRESH_BYTES = 32 + 2 * NONCE_BYTES
"""Random bytes for one payload: its data key and two nonces."""


class PayloadUnreadable(ExpectedError, ValueError):
    """A payload cannot be opened: its key is missing, or it was changed."""


class Vault:
    """Seals and opens payloads."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring

    def seal(self, payload: Any, *, personal: bool = True) -> str:
        """The payload as one text for the database; `personal` is False for what surely names no buyer, so that no one is
        found by it."""
        return self.seal_all([payload], personal=personal)[0]

    def seal_all(self, payloads: Sequence[Any], *, personal: bool = True) -> list[str]:
        """The payloads as texts for the database, sealed step by step together, which takes less time; their
        random bytes are drawn in one call of the system, at each of which another thread would take over."""
        drawn = os.urandom(FRESH_BYTES * len(payloads))
        fresh = [drawn[at : at + FRESH_BYTES] for at in range(0, len(drawn), FRESH_BYTES)]
        bodies = [
            _encrypt(AESGCM(new[:32]), to_json(payload).encode(), new[32:-NONCE_BYTES])
            for payload, new in zip(payloads, fresh, strict=True)
        ]
        parts = zip(payloads if personal else [None] * len(payloads), fresh, bodies, strict=True)
        return [self._written(one, new[:32], body, new[-NONCE_BYTES:]) for one, new, body in parts]

    def open(self, sealed: str) -> Any:
        """The payload again. Raises PayloadUnreadable."""
        if sealed.startswith(PLAIN):
            return json.loads(sealed.removeprefix(PLAIN))
        return self._opened(sealed)[0]

    def rewrap(self, sealed: str) -> str:
        """The same payload under the newest key. Raises PayloadUnreadable."""
        payload, data_key, body, indexed = self._opened(sealed)
        return self._written(payload if indexed else None, data_key, body, os.urandom(NONCE_BYTES))

    def _written(self, payload: Any, data_key: bytes, body: str, nonce: bytes) -> str:
        key = self.ring.newest()
        index = ".".join(["", *digests(payload, key.indexing), ""])
        return f"{SEALED}{key.key_id}:{index}:{_encrypt(key.wrapping, data_key, nonce)}:{body}"

    def _opened(self, sealed: str) -> tuple[Any, bytes, str, bool]:
        """The payload, its data key, its sealed text, and whether it has digests."""
        try:
            scheme, key_id, index, wrapped, body = sealed.split(":")
            if f"{scheme}:" != SEALED:
                raise ValueError(scheme)
            data_key = _decrypt(self.ring.find(key_id).wrapping, wrapped)
            return json.loads(_decrypt(AESGCM(data_key), body)), data_key, body, len(index) > 1
        except KeyError:
            raise PayloadUnreadable(
                f"The payload was sealed with the key {key_id}, which is missing: `midas keys payload` shows where keys "
                "come from."
            ) from None
        except (InvalidTag, ValueError):
            raise PayloadUnreadable("The payload is not as it was sealed: its row was changed.") from None


def vault_of(settings: Settings) -> Vault:
    """The vault with the keys that the settings name."""
    return Vault(key_ring(settings))


def _encrypt(cipher: AESGCM, data: bytes, nonce: bytes) -> str:
    return b2a_base64(nonce + cipher.encrypt(nonce, data, None), newline=False).decode()


def _decrypt(cipher: AESGCM, text: str) -> bytes:
    data = a2b_base64(text)
    return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], None)


SEALED_TABLES = (marketplace_orders, marketplace_webhooks)
BLOCK = 200
"""Rows that one transaction wraps again."""


@dataclass
class Rotated:
    """Payloads wrapped again, and by table the rows that no key opens."""

    rewrapped: int = 0
    unreadable: dict[str, list[int]] = field(default_factory=dict)


def payloads_by_key(database: Database) -> Counter[str]:
    """How many payloads each key has sealed, by its id."""
    counted: Counter[str] = Counter()
    start, length = len(SEALED) + 1, 8
    for table in SEALED_TABLES:
        key = sa.func.substr(table.c.payload, start, length)
        query = sa.select(key, sa.func.count()).where(table.c.payload.startswith(SEALED)).group_by(key)
        with database.reading() as connection:
            counted.update({row[0]: row[1] for row in connection.execute(query)})
    return counted


def rewrap_payloads(database: Database, vault: Vault) -> Rotated:
    """Wraps every payload that another key than the newest has sealed, a block a transaction.

    What is sealed meanwhile with an older key is wrapped in a further pass. Stopped at any point, the next call goes on.
    """
    done = Rotated()
    for table in SEALED_TABLES:
        before = -1
        while done.rewrapped > before:  # the first pass, and another one behind each that found something
            before = done.rewrapped
            done.unreadable[table.name] = _pass(database, vault, table, done)
    return done


def _pass(database: Database, vault: Vault, table: sa.Table, done: Rotated) -> list[int]:
    """Goes through the table once; returns the rows that no key opens."""
    newest, unreadable, last = f"{SEALED}{vault.ring.newest().key_id}:", list[int](), 0
    old = sa.and_(table.c.payload.startswith(SEALED), ~table.c.payload.startswith(newest))
    query = sa.select(table.c.id, table.c.payload).where(old).order_by(table.c.id).limit(BLOCK)
    while True:
        with database.writing() as connection:
            rows = connection.execute(query.where(table.c.id > last)).all()
            for row in rows:
                last = row.id
                try:
                    sealed = vault.rewrap(row.payload)
                except PayloadUnreadable:
                    unreadable.append(row.id)
                    continue
                same = sa.and_(table.c.id == row.id, table.c.payload == row.payload)  # not edited meanwhile
                wrapping = sa.update(table).where(same).values(payload=sealed)
                done.rewrapped += connection.execute(wrapping).rowcount
        if len(rows) < BLOCK:
            return unreadable


KINDS = ("email", "phone", "name", "account")
EMAIL = re.compile(r"[^\s@<>\"',;:()]+@[^\s@<>\"',;:()]+")
_PART, _NO_DIGIT = re.compile(r"\w+"), re.compile(r"\D+")
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
        return _NO_DIGIT.sub("", text)[-PHONE_DIGITS:]
    if kind == "name":
        return " ".join(sorted(_PART.findall(text)))
    return text


_keyed = lru_cache(8)(lambda key: hashlib.blake2b(key=key, digest_size=12))


def digest_of(kind: str, text: str, key: bytes) -> str | None:
    """The digest of what a person gives to be found by; None where nothing is left to compare."""
    found = normal(kind, text)
    if not found:
        return None
    hasher = _keyed(key).copy()
    hasher.update(f"{kind}:{found}".encode())
    return kind[0] + hasher.hexdigest()


def digests(payload: Any, key: bytes) -> list[str]:
    """The digests of everyone whom a payload names, each once."""
    found = {digest_of(kind, text, key) for kind, text in identifiers(payload)}
    return sorted(one for one in found if one is not None)


def identifiers(payload: Any) -> list[tuple[str, str]]:
    """What a person may be found by, as (kind, text): by the name of the field, and e-mail addresses in any text."""
    found: list[tuple[str, str]] = []
    parts: list[tuple[str, Any]] = [("", payload)]
    for name, value in parts:  # which grows
        kind = value.__class__
        if kind is str:
            if kinds := _kinds_of(name):
                found += [(named, value) for named in kinds]
            if "@" in value:
                found += [("email", address) for address in EMAIL.findall(value)]
        elif kind is dict:
            parts += value.items()
            if "first_name" in value or "firstName" in value:
                first = value.get("first_name") or value.get("firstName")
                last = value.get("last_name") or value.get("lastName")
                if first and last:
                    found.append(("name", f"{first} {last}"))
        elif kind is list:
            parts += [(name, one) for one in value]
        elif kind is int:
            found += [(named, str(value)) for named in _kinds_of(name)]
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
    "country", "erased",
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
