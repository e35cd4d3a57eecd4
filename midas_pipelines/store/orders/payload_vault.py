"""The payload vault: keeps what a marketplace sent, for replay and proof, sealed.

Each payload has a data key of its own (AES-256-GCM), which the master key wraps. It is one text,
`aes1:ID OF THE MASTER KEY:DIGESTS:WRAPPED DATA KEY:PAYLOAD`; the digests find a person (`store/privacy/blind_index.py`).
A rotation wraps the data key again and makes the digests again; the sealed payload stays as it is.
"""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from midas_pipelines.errors import ExpectedError
from midas_pipelines.settings import Settings
from midas_pipelines.store.privacy.blind_index import digests
from midas_pipelines.store.privacy.keys import KeyRing, MasterKey, key_ring
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
        data_key = os.urandom(32)
        body = _encrypt(AESGCM(data_key), (spelled or to_json(payload)).encode())
        return self._written(self.ring.newest(), payload if personal else None, data_key, body)

    def open(self, sealed: str) -> Any:
        """The payload again. Raises PayloadUnreadable."""
        if sealed.startswith(PLAIN):
            return json.loads(sealed.removeprefix(PLAIN))
        return self._opened(sealed)[0]

    def rewrap(self, sealed: str) -> str:
        """The same payload under the newest key. Raises PayloadUnreadable."""
        payload, data_key, body, indexed = self._opened(sealed)
        return self._written(self.ring.newest(), payload if indexed else None, data_key, body)

    def _written(self, key: MasterKey, payload: Any, data_key: bytes, body: str) -> str:
        index = ".".join(["", *digests(payload, key.indexing), ""])
        return f"{SEALED}{key.key_id}:{index}:{_encrypt(key.wrapping, data_key)}:{body}"

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


def _encrypt(cipher: AESGCM, data: bytes) -> str:
    nonce = os.urandom(NONCE_BYTES)
    return urlsafe_b64encode(nonce + cipher.encrypt(nonce, data, None)).decode()


def _decrypt(cipher: AESGCM, text: str) -> bytes:
    data = urlsafe_b64decode(text)
    return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], None)
