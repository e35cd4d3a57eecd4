"""Sends webhooks by the Standard Webhooks scheme: at least once, retried, and on demand twice or out of order."""

import asyncio
import json
import random
import secrets
from datetime import UTC, datetime
from typing import Any

import httpx
from standardwebhooks import Webhook

from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.sandbox.state import Json, checked_number, now_text

FIRST_BACK_OFF = 0.2  # seconds; doubles with each retry
LONGEST_BACK_OFF = 30.0
HELD_BACK = 0.3  # seconds at most that a webhook is held so that later ones overtake it
SENDERS = 16  # deliveries at once
RETRIES = 5


class Webhooks:
    """Sends the state's events to one address. Nothing is sent until both address and secret are set."""

    def __init__(self, config: SandboxConfig) -> None:
        self.url, self.secret = config.webhook_url, config.webhook_secret
        self.duplicates = self.reorder = 0.0  # shares: sent twice, and held so that later ones overtake
        self._random = random.Random(config.seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(SENDERS)
        self._http: httpx.AsyncClient | None = None

    def send(self, event: str, data: Json) -> None:
        """Schedules an event for delivery; called within the event loop, returns at once."""
        if not (self.url and self.secret):
            return
        body = json.dumps({"type": event, "timestamp": now_text(), "data": data}, separators=(",", ":"))
        event_id = f"msg_{secrets.token_hex(12)}"
        held_seconds = self._random.uniform(0, HELD_BACK) if self._random.random() < self.reorder else 0.0
        for _ in range(2 if self._random.random() < self.duplicates else 1):
            work = self._deliver(event_id, body, held_seconds)
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def try_out(self) -> Json:
        """Sends a signed body that is no event, so that nothing is stored; the status that the address answers, if any."""
        ready = self.url and self.secret
        return {"url": self.url, "status": await self._post("msg_try", "{}") if ready else None}

    async def stop(self) -> None:
        """Drops pending deliveries."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    @property
    def waiting(self) -> int:
        """Deliveries neither accepted nor given up."""
        return len(self._tasks)

    async def _deliver(self, event_id: str, body: str, held_seconds: float) -> None:
        """The same id and body on every attempt."""
        await asyncio.sleep(held_seconds)
        for attempt in range(RETRIES + 1):
            async with self._slots:
                if 200 <= (await self._post(event_id, body) or 0) < 300:
                    return
            await asyncio.sleep(min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2**attempt))

    async def _post(self, event_id: str, body: str) -> int | None:
        """The status that it is answered; None where no answer comes."""
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self.secret or "").sign(event_id, now, body),
        }
        self._http = self._http or httpx.AsyncClient(timeout=10, trust_env=False)
        try:
            answer = await self._http.post(self.url or "", content=body, headers=headers)
        except httpx.HTTPError:
            return None
        return answer.status_code

    def configure(self, given: dict[str, Any]) -> None:
        """Changes the given settings. Raises ValueError, with a sentence, for an invalid one."""
        for name in ("duplicates", "reorder"):
            checked_number(name, given.get(name, 0), 1)
        if given.get("secret"):
            Webhook(given["secret"])  # raises ValueError for no base64
        for name in ("url", "secret", "duplicates", "reorder"):
            if name in given:
                setattr(self, name, given[name])

    def described(self) -> Json:
        """The settings, without the secret, and how many deliveries wait."""
        shown = {name: getattr(self, name) for name in ("url", "duplicates", "reorder", "waiting")}
        return {**shown, "secret_set": bool(self.secret)}
