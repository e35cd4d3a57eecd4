"""The context of every sync: settings, database, run, a way to open the channel, and how far apart the clocks are."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import cached_property

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.contract_watch import ContractWatch
from midas_pipelines.fourseller.http.answers import LONGEST_PAUSE, AnswerSample
from midas_pipelines.fourseller.http.calls import FailedCall
from midas_pipelines.notify.alerts import clear_alert, open_subjects, raise_alert
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.claims import Heartbeat, why_stopped
from midas_pipelines.store.operations.cursors import database_ahead, is_connected, keep_clock, read_clocks
from midas_pipelines.store.operations.rate_limit import RealTimePace, SharedPace
from midas_pipelines.store.operations.sightings import (
    ENOUGH,
    compare_speed,
    follow_shadow_mode,
    record_findings,
)
from midas_pipelines.store.operations.sync_log import ErrorBook
from midas_pipelines.store.schema.version import require_columns
from midas_pipelines.sync.gate import Gate, accept_key, refuse_key, require_key

CHANNEL_DOWN = "channel_down"
CLOCK_APART = "clock_apart"
APART_SECONDS = 60.0
"""From here on there is an alert: 4Seller's webhooks are refused at five minutes."""
MOVED_SECONDS = 2.0
"""A date of 4Seller's is in whole seconds; what moves by less is noise."""

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
        return ContractWatch()

    @cached_property
    def answers(self) -> AnswerSample:
        """Counts and times these answers, and has some of them compared."""
        return AnswerSample(self.settings.contract_sample, lambda *given: self.watch.compare(*given))

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
            NotUpgraded: a column of the shop's tables is missing or of another kind; nothing was sent.
            NeedsNewKey: 4Seller refused the key.
        """
        access = self.settings.channel()

        def prepare() -> tuple[SharedPace | RealTimePace | None, bool]:
            require_columns(
                self.database
            )  # for the gateway once per process; /readyz looks again at each probe
            if not waits_for_key:
                require_key(self.database, access, tries=tries_key)
            follow_shadow_mode(self.database, on=bool(self.settings.shadow))
            rate, kind = self.settings.rate_limit, RealTimePace if real_time else SharedPace
            pace = kind(self.database, rate) if self.gate and rate is not None else None
            with self.database.reading() as connection:
                return pace, why_stopped(connection) is not None

        pace, stopped = await asyncio.to_thread(prepare)
        raising: set[asyncio.Future[None]] = set()
        with ErrorBook(self.database, self.run_id) as own:

            def note(call: FailedCall) -> None:  # called in the event loop
                (book or own).note(call)
                if call.pause_seconds > LONGEST_PAUSE and not raising:
                    alert = asyncio.get_running_loop().run_in_executor(
                        None, alert_pause, self.database, call.pause_seconds
                    )
                    raising.add(alert)
                    alert.add_done_callback(raising.discard)

            async with FourSeller(
                base_url=access.url,
                api_key=access.api_key,
                seller_id=access.seller_id,
                in_flight=self.settings.in_flight,
                pace=pace,
                on_failed_call=note,
                may_write=lambda: self.heartbeat.held and not stopped,
                guard=self.gate.check,
                watch=self.answers.note,
            ) as client:
                try:
                    yield client
                finally:
                    await asyncio.to_thread(self.keep_notes, client)

    def keep_notes(self, client: FourSeller) -> None:
        """Writes down the clocks, what the gate and the watch kept, and whether 4Seller takes the key; a failure is only logged."""
        access = self.settings.channel()
        key, client.key_accepted = client.key_accepted, None  # once: another process may resume meanwhile
        try:
            note_clocks(self.database, client.clock_ahead)
            self.gate.flush()
            found = [asdict(one) for one in self.watch.take()] if self.watch.findings else []
            if timed := self.answers.take_seconds(ENOUGH):
                found += compare_speed(self.database, timed)
            if found:
                record_findings(self.database, found)
            if key is False:
                refuse_key(self.database, access)
            elif key:
                accept_key(self.database, access)
        except sa.exc.SQLAlchemyError as failed:  # must never fail a run
            log.warning("Notes on 4Seller could not be stored: %s", type(failed).__name__)


def alert_pause(database: Database, seconds: float) -> None:
    """Raises one alert for a pause that 4Seller asks for; the next answered sync or push clears it."""
    text = (
        f"4Seller limits the rate and asks for a pause of {seconds / 60:.0f} minutes. Nothing else is sent meanwhile; "
        "one call tries every two minutes. If it lasts, lower MIDAS_RATE_LIMIT or ask 4Seller."
    )
    try:
        with database.writing() as connection:
            raise_alert(connection, kind=CHANNEL_DOWN, subject="fourseller", text=text)
    except sa.exc.SQLAlchemyError as failed:
        log.warning("An alert could not be written: %s. %s", type(failed).__name__, text)


def note_clocks(database: Database, fourseller_ahead: float | None) -> dict[str, float]:
    """Stores how many seconds each clock is ahead of this machine's, and raises or clears the alert of each.

    Args:
        database: the shop's.
        fourseller_ahead: as 4Seller's answers were dated; None where none was.
    """
    found = {"database": database_ahead(database)}
    if fourseller_ahead is not None:
        found["4Seller"] = fourseller_ahead
    with database.reading() as connection:
        kept, alerted = read_clocks(connection), open_subjects(connection, CLOCK_APART)
    moved = {whose for whose, ahead in found.items() if abs(ahead - kept.get(whose, -1e9)) >= MOVED_SECONDS}
    if not moved:  # checked every few seconds, and mostly there is nothing to write
        return found
    with database.writing() as connection:
        for whose in sorted(moved):
            ahead = found[whose]
            keep_clock(connection, whose, ahead)
            if abs(ahead) >= APART_SECONDS:
                raise_alert(connection, kind=CLOCK_APART, subject=whose, text=_sentence(whose, ahead))
            elif whose in alerted:
                clear_alert(connection, kind=CLOCK_APART, subject=whose)
    return found


def _sentence(whose: str, ahead: float) -> str:
    owner = "the database" if whose == "database" else whose
    return (
        f"The clock of {owner} is {abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} this machine's. At five "
        "minutes 4Seller's webhooks are refused. Set the clocks by NTP."
    )


def hub_ahead(database: Database) -> timedelta:
    """How far 4Seller's clock is ahead of the database's, as last measured; nothing where they differ by seconds."""
    with database.reading() as connection:
        clocks = read_clocks(connection)
    ahead = clocks.get("4Seller", 0.0) - clocks.get("database", 0.0)
    return timedelta(seconds=ahead + MOVED_SECONDS) if abs(ahead) > MOVED_SECONDS else timedelta()
