"""Keeping what a marketplace sent, for replay and audit, without leaving personal data readable.

With `MIDAS_PAYLOAD_KEY` a payload is kept whole, encrypted (Fernet, AES-128-CBC with HMAC-SHA256). Without a key
it is kept readable with everything about the buyer cut out.
"""

from __future__ import annotations

import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from midas_pipelines.storefront.json_text import to_json

IMPERSONAL = frozenset(
    [
        "id",
        "status",
        "created_at",
        "updated_at",
        "currency",
        "total",
        "shipping_cost",
        "sales_channel",
        "items",
        "sku",
        "product_id",
        "title",
        "quantity",
        "price",
        "tax",
        "tax_total",
        "total_tax",
        "sales_tax",
        "taxes",
        "discount",
        "discount_total",
        "total_discount",
        "discounts",
        "amount",
    ]
)
"""The parts of an order that say what was bought and not by whom; anything else could be personal, whatever its name."""

ENCRYPTED = "fernet:"
PLAIN = "plain:"


class Vault:
    """Seals and opens payloads. Several keys, newest first, let keys be rotated: any of them opens."""

    def __init__(self, keys: SecretStr | None) -> None:
        """Raises ValueError, without the key, when a key is not a Fernet key."""
        self._cipher: MultiFernet | None = None
        if keys is not None:
            try:
                ciphers = [Fernet(key.strip()) for key in keys.get_secret_value().split(",")]
            except ValueError:
                raise ValueError(
                    "MIDAS_PAYLOAD_KEY is not a Fernet key: 32 url-safe base64-encoded bytes."
                ) from None
            self._cipher = MultiFernet(ciphers)

    @property
    def keeps_all(self) -> bool:
        """Whether a sealed payload comes out whole; without a key it comes out without persons."""
        return self._cipher is not None

    def seal(self, payload: Any, *, personal: bool = True) -> str:
        """The payload as one text for the database; `personal` is False for what surely names no buyer."""
        if self._cipher is None:
            kept = without_persons(payload) if personal else payload
            return PLAIN + to_json(kept)
        return ENCRYPTED + self._cipher.encrypt(to_json(payload).encode()).decode()

    def open(self, sealed: str) -> Any:
        """The payload again. Raises ValueError when its key is missing."""
        if sealed.startswith(PLAIN):
            return json.loads(sealed.removeprefix(PLAIN))
        try:
            if self._cipher is None:
                raise InvalidToken
            return json.loads(self._cipher.decrypt(sealed.removeprefix(ENCRYPTED).encode()))
        except InvalidToken:
            raise ValueError(
                "The payload was sealed with a key that MIDAS_PAYLOAD_KEY does not hold."
            ) from None


def without_persons(payload: Any) -> Any:
    """Of the payload what is known to describe no person: `IMPERSONAL` fields, at any depth."""
    if isinstance(payload, dict):
        return {
            name: without_persons(value) if isinstance(value, dict | list) else value
            for name, value in payload.items()
            if name in IMPERSONAL
        }
    if isinstance(payload, list):
        return [without_persons(value) for value in payload if not isinstance(value, str)]
    return None if isinstance(payload, str) else payload
