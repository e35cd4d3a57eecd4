"""Whether a webhook is really 4Seller's: Standard Webhooks, over the raw body, in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping

from pydantic import SecretStr

from midas_pipelines.errors import ExpectedError
from midas_pipelines.settings import SettingsError

HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
LONGEST_ID = 200
SHORTEST_KEY = 16  # bytes
TOLERANCE_SECONDS = 300
SECONDS = re.compile(r"[0-9]{1,12}")


class BadSignature(ExpectedError):
    """The webhook is not 4Seller's, or too old; the message says what is wrong without saying how to do better.

    `reason` is headers, signature, or timestamp: the last alone is rightly signed.
    """

    http_status = 401

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Verifier:
    """Holds the secrets, the newest first; any of them will do, so that one can be changed without losing events."""

    def __init__(self, secrets: SecretStr | None) -> None:
        """Raises SettingsError, without the secret, for one that is no secret."""
        texts = [] if secrets is None else [text.strip() for text in secrets.get_secret_value().split(",")]
        try:
            self._keys = [_key(text) for text in texts if text]
        except ValueError:
            raise SettingsError(
                "FOURSELLER_WEBHOOK_SECRET is no webhook secret: whsec_ followed by base64, as 4Seller shows it."
            ) from None

    @property
    def ready(self) -> bool:
        """Whether there is a secret at all."""
        return bool(self._keys)

    def check_head(self, headers: Mapping[str, str]) -> tuple[str, str, str]:
        """The id, timestamp and signatures that a webhook carries. Raises BadSignature before any body is read."""
        webhook_id, timestamp, signatures = (headers.get(name, "") for name in HEADERS)
        if not (webhook_id and timestamp and signatures):
            raise BadSignature(
                "headers", "A webhook needs the headers webhook-id, webhook-timestamp and webhook-signature."
            )
        if len(webhook_id) > LONGEST_ID or not webhook_id.isprintable():
            raise BadSignature(
                "headers", f"Its webhook-id is longer than {LONGEST_ID} characters, or not printable."
            )
        if not SECONDS.fullmatch(timestamp):
            raise BadSignature("headers", "Its webhook-timestamp is no number of seconds since 1970.")
        return webhook_id, timestamp, signatures

    def check(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The webhook's id. Raises BadSignature for any that no secret signed within the last five minutes."""
        webhook_id, timestamp, signatures = self.check_head(headers)
        signed = f"{webhook_id}.{timestamp}.".encode() + body
        right = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in self._keys]
        given = signatures.encode("utf-8", "surrogateescape").split(b" ")
        if not any(hmac.compare_digest(one, other) for one in right for other in given):
            raise BadSignature("signature", "Its signature does not match.")
        age = time.time() - int(timestamp)
        if abs(age) > TOLERANCE_SECONDS:
            raise BadSignature(
                "timestamp",
                f"Its signature is right, but its timestamp is {abs(age):.0f} seconds "
                f"{'behind' if age > 0 else 'ahead of'} the clock here: more than five minutes away.",
            )
        return webhook_id


def _key(text: str) -> bytes:
    """The bytes of a secret. Raises ValueError for what is not base64, or too short to be a secret."""
    given = text.removeprefix("whsec_")
    key = base64.b64decode(given + "=" * (-len(given) % 4), validate=True)
    if len(key) < SHORTEST_KEY:
        raise ValueError("too short")
    return key
