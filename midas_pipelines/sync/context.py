"""The context of every sync: settings, database, run, a way to open the channel, and the gate of every write to 4Seller.

Shadow mode, an account that is not connected yet and a key that 4Seller refused each keep a write from leaving.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Sized
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.contract_watch import ContractWatch
from midas_pipelines.fourseller.errors import NeedsNewKey, NotConnected, NotSent, ShadowWrite
from midas_pipelines.fourseller.http.answers import LONGEST_PAUSE, AnswerSample, Call
from midas_pipelines.fourseller.http.rate_limit import FailedCall
from midas_pipelines.notify.alerts import clear_alert, note_clocks, open_subjects, raise_alert
from midas_pipelines.settings import ChannelAccess, Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.acknowledge import SHADOWED
from midas_pipelines.store.items.claims import Heartbeat, why_stopped
from midas_pipelines.store.operations import cursors, findings
from midas_pipelines.store.operations.cursors import ErrorBook
from midas_pipelines.store.operations.findings import ShadowRow
from midas_pipelines.store.operations.rate_limit import RealTimePace, SharedPace
from midas_pipelines.store.schema.version import require_columns
from midas_pipelines.sync.threads import in_thread
from midas_pipelines.workflows import writes_of

CHANNEL_DOWN = "channel_down"
NEEDS_KEY, SUBJECT = "needs_new_key", "fourseller"
MOMENTS = ("timestamp", "updated_at")
MOST_KEPT = 5000  # writes kept in memory until they are written down

FIRST = (
    "4Seller has listings, and this shop was never connected to them: run `midas connect`, read what would change, "
    "then `midas connect accept`."
)

KEY_REFUSED = (
    "4Seller refused the key at {:%Y-%m-%d %H:%M} UTC. Nothing is pushed, and imports try it every 15 minutes. Set "
    "FOURSELLER_API_KEY to a new key, or run `midas doctor --new-key` once 4Seller takes this one again."
)

log = logging.getLogger(__name__)


class ChannelDown(ExpectedError):
    """4Seller does not answer; the run ends early with the reason."""

    http_status = 503
    retry_seconds = 30


class Gate:
    """Checks each write of one client, and keeps what shadow mode holds back until `flush`."""

    def __init__(self, settings: Settings, database: Database, run_id: str | None) -> None:
        self._shadowed = writes_of(settings.shadow)
        self._database, self._run_id = database, run_id
        self._kept: list[ShadowRow] = []
        self.connected = cursors.is_connected(database)

    def check(self, call: Call) -> None:
        """Lets a write pass. Raises ShadowWrite where it was kept instead, NotConnected without a first connection."""
        kind = "status" if call.template.startswith("/orders") else "listing"
        kind = "quantity" if call.template.endswith("/inventory") else kind
        if kind in self._shadowed:
            body: dict[str, Any] = json.loads(call.body) if call.body else {}
            content = {name: value for name, value in body.items() if name not in MOMENTS}
            self.keep(ShadowRow(kind, str(body.get("sku") or call.item), call.endpoint, content))
            raise ShadowWrite(f"{call.subject}: {SHADOWED}", item=call.item)
        if kind != "status" and not self.connected:
            raise NotConnected(FIRST, item=call.item)

    def keep(self, row: ShadowRow) -> None:
        """Takes a write that was kept from leaving."""
        if len(self._kept) < MOST_KEPT:
            self._kept.append(row)

    async def ensure_connected(self, client: FourSeller, listed: Sized | None = None) -> None:
        """Returns where listings may be written; connects an account without listings (`listed`, where all were just
        read). Raises NotConnected where it has some and `midas connect accept` was not run, FourSellerError where
        it cannot be read."""
        if self.connected or "listing" in self._shadowed:
            return
        if not await in_thread(cursors.is_connected, self._database):
            page = await anext(client.product_pages()) if listed is None else None
            if listed or (page is not None and (page.rows or page.total)):
                raise NotConnected(FIRST)
            await in_thread(self._database.write, cursors.note_connected)
        self.connected = True

    def flush(self) -> None:
        """Writes down what was kept."""
        kept, self._kept = self._kept, []
        if kept:
            findings.record_shadow_writes(self._database, kept, self._run_id)


def worker_name() -> str:
    """A unique name for the holder of a claim."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class SyncContext:
    """Settings, database, and the id of the run or other driver that the work is done for, which is in every log
    row."""

    settings: Settings
    database: Database
    run_id: str | None = None
    worker: str = field(default_factory=worker_name)
    endless: bool = False  # the gateway's worker, whose writes are kept under each hour
    opened: float = field(default_factory=time.perf_counter, compare=False)

    @property
    def seconds(self) -> float:
        """Since this context was made."""
        return round(time.perf_counter() - self.opened, 3)

    @cached_property
    def heartbeat(self) -> Heartbeat:
        """The heartbeat of this worker; runs while it has claims."""
        return Heartbeat(self.database, self.worker)

    @asynccontextmanager
    async def claiming(self) -> AsyncIterator[None]:
        """Keeps this worker's lease while the block runs, which may be nested; its claims end with the lease."""
        await in_thread(self.heartbeat.begin)
        try:
            yield
        finally:
            await in_thread(self.heartbeat.end)

    @property
    def written_as(self) -> str:
        """What its writes are kept under for `midas undo`: the run's id, else the worker's name. Hours are UTC."""
        name = (self.run_id or self.worker)[-64:]
        return f"{name}-{datetime.now(UTC):%Y-%m-%dT%H}" if self.endless else name

    @cached_property
    def access(self) -> ChannelAccess:
        """Where 4Seller is and who we are there. Raises SettingsError where it is not set."""
        return self.settings.channel()

    @cached_property
    def gate(self) -> Gate:
        """The gate that every write of this context's clients passes."""
        return Gate(self.settings, self.database, self.run_id)

    @cached_property
    def watch(self) -> ContractWatch:
        """Compares what this context's clients are answered with the contract."""
        return ContractWatch()

    @cached_property
    def answers(self) -> AnswerSample:
        """Counts and times these answers, and has some of them compared."""
        return AnswerSample(self.settings.contract_sample, lambda *given: self.watch.compare(*given))

    @asynccontextmanager
    async def channel(
        self, book: ErrorBook | None = None, *, tries_key: bool = False
    ) -> AsyncIterator[FourSeller]:
        """An open client; every failed call it makes is written to `fourseller_api_errors`.

        A long-lived one in real time has a `book` of failed calls, which its owner flushes: it opens also while the key is
        refused, for its owner looks before it sends, and its calls go before those of bulk work where MIDAS_RATE_LIMIT is set.
        One that `tries_key` may try a refused key now and then.

        Raises SettingsError, NotUpgraded where a column of the shop's tables is not as expected, NeedsNewKey where 4Seller
        refused the key; nothing was sent.
        """
        access = self.access

        def prepare() -> tuple[SharedPace | None, bool]:
            # for the gateway once per process; /readyz looks again at each probe
            with self.database.reading() as connection:
                require_columns(connection)
                refused = cursors.key_refused_at(connection, access) if book is None else None
                in_shadow, stopped = cursors.in_shadow_mode(connection), why_stopped(connection) is not None
            if refused is not None and not (tries_key and cursors.take_trial(self.database, access)):
                raise NeedsNewKey(KEY_REFUSED.format(refused))
            if in_shadow is not bool(self.settings.shadow):
                cursors.note_shadow_mode(self.database, on=not in_shadow)
            rate, kind = self.settings.rate_limit, SharedPace if book is None else RealTimePace
            return kind(self.database, rate) if self.gate and rate is not None else None, stopped

        pace, stopped = await in_thread(prepare)
        raising: set[asyncio.Future[None]] = set()
        with ErrorBook(self.database, self.run_id) as own:

            def note(call: FailedCall) -> None:  # called in the event loop
                (book or own).note(call)
                if call.pause_seconds > LONGEST_PAUSE and not raising:
                    alert = asyncio.ensure_future(in_thread(_alert_pause, self.database, call.pause_seconds))
                    raising.add(alert)
                    alert.add_done_callback(raising.discard)

            def guard(call: Call) -> None:
                self.gate.check(call)
                if stopped or not self.heartbeat.held:
                    why = "this worker's lease may be over, or pushes are stopped"
                    raise NotSent(f"{call.subject} was not sent: {why}.", item=call.item)

            async with FourSeller(
                base_url=access.url,
                api_key=access.api_key,
                seller_id=access.seller_id,
                in_flight=self.settings.in_flight,
                pace=pace,
                on_failed_call=note,
                guard=guard,
                watch=self.answers.note,
            ) as client:
                try:
                    yield client
                finally:
                    await in_thread(self.keep_notes, client)

    def keep_notes(self, client: FourSeller) -> None:
        """Writes down the clocks, what the gate and the watch kept, and whether 4Seller takes the key; a failure is only logged."""
        access = self.access
        key, client.key_accepted = client.key_accepted, None  # once: another process may resume meanwhile
        try:
            note_clocks(self.database, client.clock_ahead)
            self.gate.flush()
            found = [asdict(one) for one in self.watch.take()] if self.watch.findings else []
            if timed := self.answers.take_seconds(cursors.ENOUGH):
                found += cursors.compare_speed(self.database, timed)
            if found:
                findings.record_findings(self.database, found)
            if key is False:
                _refuse_key(self.database, access)
            elif key:
                accept_key(self.database, access)
        except sa.exc.SQLAlchemyError as failed:  # must never fail a run
            log.warning("Notes on 4Seller could not be stored: %s", type(failed).__name__)


def _alert_pause(database: Database, seconds: float) -> None:
    """Raises one alert for a pause that 4Seller asks for; the next answered sync or push clears it."""
    text = (
        f"4Seller limits the rate and asks for a pause of {seconds / 60:.0f} minutes. Nothing else is sent meanwhile; "
        "one call tries every two minutes. If it lasts, lower MIDAS_RATE_LIMIT or ask 4Seller."
    )
    try:
        database.write(raise_alert, kind=CHANNEL_DOWN, subject=SUBJECT, text=text)
    except sa.exc.SQLAlchemyError as failed:
        log.warning("An alert could not be written: %s. %s", type(failed).__name__, text)


def key_is_refused(database: Database, access: ChannelAccess) -> bool:
    """Whether 4Seller refused this key, and has not taken it since."""
    return database.read(cursors.key_refused_at, access) is not None


def _refuse_key(database: Database, access: ChannelAccess) -> None:
    """Puts the installation into *needs a new key*, with one alert."""
    with database.writing() as connection:
        if cursors.note_refused_key(connection, access):
            text = (
                "4Seller refuses the key: nothing is pushed, and imports try it every 15 minutes. Make a new key at "
                "4Seller and set FOURSELLER_API_KEY, or run `midas doctor --new-key` once it takes this one again."
            )
            raise_alert(connection, kind=NEEDS_KEY, subject=SUBJECT, text=text)


def accept_key(database: Database, access: ChannelAccess) -> bool:
    """Ends *needs a new key*, for 4Seller has just taken this key; True where this key or the one before was refused."""
    with database.reading() as connection:
        refused = cursors.key_refused_at(connection, access) is not None
        if not refused and not open_subjects(connection, NEEDS_KEY):
            return False
    with database.writing() as connection:
        cursors.forget_refused_key(connection, access)
        clear_alert(connection, kind=NEEDS_KEY, subject=SUBJECT)
    return True
