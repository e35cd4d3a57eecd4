"""Whether a webhook is really 4Seller's: Standard Webhooks, over the raw body, in constant time."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from pydantic import SecretStr
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from midas_pipelines.settings import SettingsError

HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
LONGEST_ID = 200
SHORTEST_KEY = 16  # bytes


class BadSignature(Exception):
    """The webhook is not 4Seller's, or too old; the message says what is wrong without saying how to do better."""


class Verifier:
    """Holds the secrets, the newest first; any of them will do, so that one can be changed without losing events."""

    def __init__(self, secrets: SecretStr | None) -> None:
        """Raises SettingsError, without the secret, for one that is no secret."""
        texts = [] if secrets is None else [text.strip() for text in secrets.get_secret_value().split(",")]
        try:
            self._hooks = [Webhook(_key(text)) for text in texts if text]
        except ValueError:
            raise SettingsError(
                "FOURSELLER_WEBHOOK_SECRET is no webhook secret: whsec_ followed by base64, as 4Seller shows it."
            ) from None

    @property
    def ready(self) -> bool:
        """Whether there is a secret at all."""
        return bool(self._hooks)

    def check(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The webhook's id. Raises BadSignature for any that no secret signed within the last five minutes."""
        given = {name: headers.get(name, "") for name in HEADERS}
        if not all(given.values()):
            raise BadSignature(
                "A webhook needs the headers webhook-id, webhook-timestamp and webhook-signature."
            )
        if len(given["webhook-id"]) > LONGEST_ID or not given["webhook-id"].isprintable():
            raise BadSignature(f"Its webhook-id is longer than {LONGEST_ID} characters, or not printable.")
        if not any(_signed(hook, body, given) for hook in self._hooks):
            raise BadSignature(
                "Its signature does not match, or its timestamp is more than five minutes away."
            )
        return given["webhook-id"]


def _key(text: str) -> bytes:
    """The bytes of a secret. Raises ValueError for what is not base64, or too short to be a secret."""
    given = text.removeprefix("whsec_")
    key = base64.b64decode(given + "=" * (-len(given) % 4), validate=True)
    if len(key) < SHORTEST_KEY:
        raise ValueError("too short")
    return key


def _signed(hook: Webhook, body: bytes, headers: dict[str, str]) -> bool:
    try:
        hook.verify(body, headers, json_parse=False)
    except (
        WebhookVerificationError,
        ValueError,
        ArithmeticError,
    ):  # ValueError: not base64, not UTF-8, no number
        return False
    return True
