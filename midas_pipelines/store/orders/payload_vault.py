"""The payload vault: keeps what a marketplace sent, for replay and proof, sealed.

Each payload has a data key of its own (AES-256-GCM), which the master key wraps. It is one text,
`aes1:ID OF THE MASTER KEY:DIGESTS:WRAPPED DATA KEY:PAYLOAD`; the digests find a person (`store/privacy/persons.py`).
A rotation wraps the data keys again under the newest master key and makes the digests again, while everything runs; the
sealed payloads stay as they are.
"""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from midas_pipelines.errors import ExpectedError
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.privacy.keys import KeyRing, key_ring
from midas_pipelines.store.privacy.persons import digests
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.text import to_json

SEALED = "aes1:"
PLAIN = "plain:"
FORGOTTEN = {"forgotten": True}
"""Stored in place of an erased buyer."""
ERASED_PAYLOAD = PLAIN + to_json(FORGOTTEN)

NONCE_BYTES = 12


class PayloadUnreadable(ExpectedError, ValueError):
    """A payload cannot be opened: its key is missing, or it was changed."""


class Vault:
    """Seals and opens payloads."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring

    def seal(self, payload: Any, *, personal: bool = True, spelled: str | None = None) -> str:
        """The payload as one text for the database.

        Args:
            payload: what was sent.
            personal: False for what surely names no buyer, so that nobody is found by it.
            spelled: the payload as JSON, where the caller has it already.
        """
        fresh = os.urandom(32 + 2 * NONCE_BYTES)  # one call of the system
        data_key, nonces = fresh[:32], (fresh[32:-NONCE_BYTES], fresh[-NONCE_BYTES:])
        body = _encrypt(AESGCM(data_key), (spelled or to_json(payload)).encode(), nonces[0])
        return self._written(payload if personal else None, data_key, body, nonces[1])

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
    return urlsafe_b64encode(nonce + cipher.encrypt(nonce, data, None)).decode()


def _decrypt(cipher: AESGCM, text: str) -> bytes:
    data = urlsafe_b64decode(text)
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
