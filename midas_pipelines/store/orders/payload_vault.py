"""The payload vault: keeps what a marketplace sent, for replay and audit, without readable personal data.

With `MIDAS_PAYLOAD_KEY` a payload is kept whole, encrypted (Fernet, AES-128-CBC with HMAC-SHA256). Without a key
it is kept readable with everything about the buyer cut out.
"""

from __future__ import annotations

import json
import re
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from midas_pipelines.storefront.json_text import to_json

_IMPERSONAL = (
    "id status created_at updated_at currency total shipping_cost sales_channel items sku product_id title quantity price "
    "tax tax_total total_tax sales_tax taxes discount discount_total total_discount discounts amount"
)
IMPERSONAL = frozenset(_IMPERSONAL.split())
"""The parts of an order that say what was bought and not by whom; anything else could be personal, whatever its name."""

ENCRYPTED = "fernet:"
PLAIN = "plain:"
FORGOTTEN = {"forgotten": True}
"""Stored in place of an erased buyer."""
ERASED_PAYLOAD = PLAIN + to_json(FORGOTTEN)


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
        """Whether a payload can be read back whole; without a key it has no personal data."""
        return self._cipher is not None

    def seal(self, payload: Any, *, personal: bool = True, spelled: str | None = None) -> str:
        """The payload as one text for the database.

        Args:
            payload: what was sent.
            personal: False for what surely names no buyer.
            spelled: the payload as JSON, where the caller has it already.
        """
        if self._cipher is None:
            kept = without_persons(payload) if personal else payload
            return _plain(kept)
        return ENCRYPTED + self._cipher.encrypt((spelled or to_json(payload)).encode()).decode()

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


def _plain(payload: Any) -> str:
    """The payload readable, in characters that every database holds."""
    text = to_json(payload)
    return PLAIN + (text if text.isascii() else json.dumps(json.loads(text)))


_MONEY_WORDS = (
    "tax vat gst duty discount coupon promo promotion rebate fee total subtotal amount price cost rate"
)
MONEY_WORDS = frozenset(_MONEY_WORDS.split())
MONEY = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,6})?")
"""Fields that the contract does not have, and whose names speak of money, are kept where they hold some, and nothing else."""


def without_persons(payload: Any) -> Any:
    """Of the payload what is known to describe no person: `IMPERSONAL` fields, at any depth, and amounts."""
    if isinstance(payload, dict):
        return {
            name: kept
            for name, value in payload.items()
            if (kept := _kept(name, value)) is not None or (name in IMPERSONAL and value is None)
        }
    if isinstance(payload, list):
        return [without_persons(value) for value in payload if not isinstance(value, str)]
    return None if isinstance(payload, str) else payload


def _kept(name: str, value: Any) -> Any:
    if _speaks_of_money(name) and not (name in IMPERSONAL and isinstance(value, str)):
        return _amounts(value)
    if name not in IMPERSONAL:
        return None
    return without_persons(value) if isinstance(value, dict | list) else value


def _speaks_of_money(name: str) -> bool:
    words = {word.lower().removesuffix("s") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    return not words.isdisjoint(MONEY_WORDS) or "taxe" in words


def _amounts(value: Any) -> Any:
    """The numbers in a field with a money name; None when there are none."""
    if isinstance(value, dict):
        inside = {name: kept for name, part in value.items() if (kept := _amounts(part)) is not None}
        return inside or None
    if isinstance(value, list):
        return [kept for part in value if (kept := _amounts(part)) is not None]
    if isinstance(value, str):
        return value if MONEY.fullmatch(value) else None
    return value if isinstance(value, int | float) else None
