"""The context of every sync: settings, database, run, and a way to open the channel."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.contract_watch import ContractWatch
from midas_pipelines.fourseller.http.calls import FailedCall
from midas_pipelines.fourseller.http.rate_limit import LONGEST_PAUSE
from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.worker_liveness import Heartbeat, why_stopped
from midas_pipelines.store.operations.cursors import is_connected
from midas_pipelines.store.operations.findings import ENOUGH, compare_speed, record_findings
from midas_pipelines.store.operations.rate_limit import SharedPace
from midas_pipelines.store.operations.shadow import follow_shadow_mode
from midas_pipelines.store.operations.sync_log import ErrorBook
from midas_pipelines.sync.clocks import note_clocks
from midas_pipelines.sync.gate import Gate, accept_key, refuse_key, require_key

CHANNEL_DOWN = "channel_down"

log = logging.getLogger(__name__)


class ChannelDown(ExpectedError):
    """4Seller does not answer; the run ends early with the reason."""

    http_status = 503
    retry_seconds = 30


def worker_name() -> str:
    """A unique name for the holder of a claim."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class SyncContext:
    """Settings, database and run id, handed through the engine.

    Args:
        settings: as read at the edge.
        database: the shop's, prepared by `migrate.upgrade`.
        run_id: the Dagster run or other driver that this work is done for; written to every log row.
    """

    settings: Settings
    database: Database
    run_id: str | None = None
    worker: str = field(default_factory=worker_name)

    @cached_property
    def heartbeat(self) -> Heartbeat:
        """The heartbeat of this worker; runs while it has claims."""
        return Heartbeat(self.database, self.worker)

    @property
    def written_as(self) -> str:
        """What its writes are kept under for `midas undo`: the run's id, else the worker's name."""
        return (self.run_id or self.worker)[-64:]

    @cached_property
    def gate(self) -> Gate:
        """The gate that every write of this context's clients passes."""
        connected = is_connected(self.database)
        return Gate(self.settings, self.database, self.run_id, connected=connected)

    @cached_property
    def watch(self) -> ContractWatch:
        """Compares what this context's clients are answered with the contract."""
        return ContractWatch(self.settings.contract_sample)

    @asynccontextmanager
    async def channel(
        self,
        book: ErrorBook | None = None,
        *,
        tries_key: bool = False,
        waits_for_key: bool = False,
        real_time: bool = False,
    ) -> AsyncIterator[FourSeller]:
        """An open client; every failed call it makes is written to `fourseller_api_errors`.

        Args:
            book: collects failed calls for a long-lived client; its owner flushes it.
            tries_key: may try a key now and then that 4Seller refused.
            waits_for_key: opens also while the key is refused: its owner looks before it sends.
            real_time: its calls go before those of bulk work, where MIDAS_RATE_LIMIT is set.

        Raises:
            SettingsError: the access to 4Seller is not set.
            NeedsNewKey: 4Seller refused the key.
        """
        access = self.settings.channel()
        if not waits_for_key:
            await asyncio.to_thread(require_key, self.database, access, tries=tries_key)
        await asyncio.to_thread(follow_shadow_mode, self.database, on=bool(self.settings.shadow))
        gate = await asyncio.to_thread(lambda: self.gate)
        rate = self.settings.rate_limit
        pace = SharedPace(self.database, rate, real_time=real_time) if rate is not None else None
        pauses = PauseAlert(self.database)
        stopped = await asyncio.to_thread(self._stopped)
        with ErrorBook(self.database, self.run_id) as own:

            def note(call: FailedCall) -> None:
                (book or own).note(call)
                pauses.note(call)

            async with FourSeller(
                base_url=access.url,
                api_key=access.api_key,
                seller_id=access.seller_id,
                in_flight=self.settings.in_flight,
                pace=pace,
                on_failed_call=note,
                may_write=lambda: self.heartbeat.held and not stopped,
                guard=gate.check,
                watch=self.watch.note,
            ) as client:
                try:
                    yield client
                finally:
                    await asyncio.to_thread(self._note_clocks, client.clock_ahead)
                    await asyncio.to_thread(self.keep_notes, client)

    def keep_notes(self, client: FourSeller) -> None:
        """Writes down what the gate kept, and whether 4Seller takes the key; a failure is only logged."""
        access = self.settings.channel()
        key, client.key_accepted = (
            client.key_accepted,
            None,
        )  # noted once: another process may resume meanwhile
        try:
            self.gate.flush()
            found = [asdict(one) for one in self.watch.take()]
            record_findings(
                self.database, found + compare_speed(self.database, self.watch.take_seconds(ENOUGH))
            )
            if key is False:
                refuse_key(self.database, access)
            elif key:
                accept_key(self.database, access)
        except sa.exc.SQLAlchemyError as failed:
            log.warning("Notes on 4Seller could not be stored: %s", type(failed).__name__)

    def _stopped(self) -> bool:
        with self.database.reading() as connection:
            return why_stopped(connection) is not None

    def _note_clocks(self, fourseller_ahead: float | None) -> None:
        try:
            note_clocks(self.database, fourseller_ahead)
        except sa.exc.SQLAlchemyError as failed:  # must never fail a run
            log.warning("The clocks could not be stored: %s", type(failed).__name__)


class PauseAlert:
    """Raises one alert for a pause of more than two minutes, in a thread; the next answered sync or push clears it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._raising: asyncio.Future[None] | None = None

    def note(self, call: FailedCall) -> None:
        """Takes a failed call; called in the event loop."""
        if call.pause_seconds <= LONGEST_PAUSE or (self._raising is not None and not self._raising.done()):
            return
        self._raising = asyncio.get_running_loop().run_in_executor(None, self._raise, call.pause_seconds)

    def _raise(self, seconds: float) -> None:
        text = (
            f"4Seller limits the rate and asks for a pause of {seconds / 60:.0f} minutes. Nothing else is sent meanwhile; "
            "one call tries every two minutes. If it lasts, lower MIDAS_RATE_LIMIT or ask 4Seller."
        )
        try:
            with self._database.writing() as connection:
                raise_alert(connection, kind=CHANNEL_DOWN, subject="fourseller", text=text)
        except sa.exc.SQLAlchemyError as failed:
            log.warning("An alert could not be written: %s. %s", type(failed).__name__, text)
