"""The way in of webhooks: verified (Standard Webhooks), read and stored before they are answered.

Those that arrive together share one thread and one transaction.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from midas_pipelines.errors import ExpectedError, WrongInput
from midas_pipelines.fourseller.http.answers import read_json
from midas_pipelines.fourseller.lenient import id_in
from midas_pipelines.settings import SettingsError
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.gateway.webhooks import ORDER, NewWebhook
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.storefront.writing import blame
from midas_pipelines.sync.orders.model.sale import short_id
from midas_pipelines.sync.threads import in_thread

ORDER_TYPES = frozenset({"order.created", "order.updated", "order.cancelled"})
PRODUCT_TYPES = frozenset({"inventory.updated", "product.updated", "product.deleted"})
LONGEST_TYPE = 100
LONGEST_SUBJECT = 200

MOST = 200  # webhooks stored in one transaction

GATHER_SECONDS = 0.01
"""How long after one transaction the next begins: it costs as much for one webhook as for five. The first after a pause
waits for none."""

BEAT_SECONDS = 5.0

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
            self.keys = [_key(text) for text in texts if text]
        except ValueError:
            raise SettingsError(
                "FOURSELLER_WEBHOOK_SECRET is no webhook secret: whsec_ followed by base64, as 4Seller shows it."
            ) from None

    def check_head(self, headers: Mapping[str, str]) -> tuple[str, str, str]:
        """The id, timestamp and signatures that a webhook carries. Raises BadSignature before any body is read."""
        webhook_id, timestamp, signatures = (headers.get(name, "") for name in HEADERS)
        wrong = ""
        if not self.keys:
            wrong = "No webhook can be verified here: FOURSELLER_WEBHOOK_SECRET is not set."
        elif not (webhook_id and timestamp and signatures):
            wrong = "A webhook needs the headers webhook-id, webhook-timestamp and webhook-signature."
        elif len(webhook_id) > LONGEST_ID or not webhook_id.isprintable():
            wrong = f"Its webhook-id is longer than {LONGEST_ID} characters, or not printable."
        elif not SECONDS.fullmatch(timestamp):
            wrong = "Its webhook-timestamp is no number of seconds since 1970."
        if wrong:
            raise BadSignature("headers", wrong)
        return webhook_id, timestamp, signatures

    def check(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The webhook's id. Raises BadSignature for any that no secret signed within the last five minutes."""
        webhook_id, timestamp, signatures = self.check_head(headers)
        signed = f"{webhook_id}.{timestamp}.".encode() + body
        right = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in self.keys]
        given = signatures.encode("utf-8", "surrogateescape").split(b" ")
        if not any(hmac.compare_digest(one, other) for one in right for other in given):
            raise BadSignature("signature", "Its signature does not match.")
        age = time.time() - int(timestamp)
        if abs(age) > TOLERANCE_SECONDS:
            side = "behind" if age > 0 else "ahead of"
            away = f"its timestamp is {abs(age):.0f} seconds {side} the clock here"
            raise BadSignature("timestamp", f"Its signature is right, but {away}: more than five minutes.")
        return webhook_id


def _key(text: str) -> bytes:
    """The bytes of a secret. Raises ValueError for what is not base64, or too short to be a secret."""
    given = text.removeprefix("whsec_")
    key = base64.b64decode(given + "=" * (-len(given) % 4), validate=True)
    if len(key) < SHORTEST_KEY:
        raise ValueError("too short")
    return key


class BadEvent(WrongInput):
    """The body is not an event; the message says what is missing."""

    http_status = 400


def read_event(webhook_id: str, body: bytes, vault: Vault) -> NewWebhook:
    """The event in a body, as `{"type", "timestamp", "data"}`, sealed. Raises BadEvent."""
    try:
        value = read_json(body)
    except ValueError:
        raise BadEvent("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise BadEvent("The body should be a JSON object.")
    kind, data = value.get("type"), value.get("data")
    if not isinstance(kind, str) or not kind.strip():
        raise BadEvent("The event should say its `type`.")
    if not isinstance(data, dict):
        raise BadEvent("The event's `data` should be the whole order or product.")
    kind = kind.strip()[:LONGEST_TYPE]
    sealed = vault.seal(data, personal=kind not in PRODUCT_TYPES)
    return NewWebhook(webhook_id, kind, _subject(kind, data), sealed)


def _subject(kind: str, data: dict[str, Any]) -> str | None:
    """What the event is about; None where nothing names an order or a product."""
    if kind.partition(".")[0] in ("product", "inventory"):
        given = id_in(data, "id") or id_in(data, "product_id")
        return None if given is None else f"product:{given[:LONGEST_SUBJECT]}"
    order = data.get("order")  # of whatever kind: an order's events are found when its buyer is erased
    within = id_in(order, "id") if isinstance(order, dict) else None
    given = within or id_in(data, "order_id") or id_in(data, "id")
    return None if given is None else f"{ORDER}{short_id(given)}"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A verified webhook; `stored` becomes whether its id is new, or the error that kept it from being stored."""

    webhook_id: str
    body: bytes
    stored: asyncio.Future[bool]


class Inbox:
    """Stores webhooks, from `run` to `stop`. While one transaction is under way, and just after it, the next ones gather."""

    def __init__(self, database: Database, vault: Vault, on_new: Callable[[], None]) -> None:
        self._database = database
        self._vault = vault
        self._on_new = on_new
        self._arrived: asyncio.Queue[Arrived | None] = asyncio.Queue()
        self._stopping = False

    async def take(self, webhook_id: str, body: bytes) -> bool:
        """Stores the event in a body; True when its id is new. Raises BadEvent where it holds none, SQLAlchemyError
        where it is not stored."""
        arrived = Arrived(webhook_id, body, asyncio.get_running_loop().create_future())
        self._arrived.put_nowait(arrived)
        return await arrived.stored

    def stop(self) -> None:
        """Makes `run` end once what has arrived is stored."""
        self._stopping = True
        self._arrived.put_nowait(None)

    async def run(self, beat: Callable[[], None]) -> None:
        """Stores what arrives; `beat` is called now and then, arrivals or not."""
        next_at = 0.0
        while not self._stopping or not self._arrived.empty():
            beat()
            batch: list[Arrived | None] = []
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    batch.append(await self._arrived.get())
            await asyncio.sleep(next_at - time.monotonic())
            while not self._arrived.empty() and len(batch) < MOST:
                batch.append(self._arrived.get_nowait())
            if arrived := [one for one in batch if one is not None]:
                await self._store(arrived)
                next_at = time.monotonic() + GATHER_SECONDS

    async def _store(self, batch: list[Arrived]) -> None:
        try:
            results = await in_thread(self._write, batch)
        except Exception as failed:
            if len(batch) > 1 and not blame(failed).of_all:
                for one in batch:
                    await self._store([one])
                return
            results = [failed for _ in batch]
        if True in results:
            self._on_new()
        for one, result in zip(batch, results, strict=True):
            if one.stored.done():  # the caller has hung up
                continue
            if isinstance(result, Exception):
                one.stored.set_exception(result)
            else:
                one.stored.set_result(result)

    def _write(self, batch: list[Arrived]) -> list[bool | Exception]:
        """Stores what can be read; whether the id of each is new, or why it cannot be read."""
        read = [self._read(one) for one in batch]
        new: set[str] = set()
        if readable := [one for one in read if isinstance(one, NewWebhook)]:
            new = self._database.write(webhooks.store_webhooks, readable)
        results: list[bool | Exception] = []
        for one in read:
            results.append(one if isinstance(one, BadEvent) else one.webhook_id in new)
            if isinstance(one, NewWebhook):
                new.discard(one.webhook_id)  # of several with one id in a batch the first is the new one
        return results

    def _read(self, arrived: Arrived) -> NewWebhook | BadEvent:
        try:
            return read_event(arrived.webhook_id, arrived.body, self._vault)
        except BadEvent as why:
            return why
