"""Alert for a long pause that 4Seller asks for: while it lasts one call tries every two minutes and the rest waits."""

from __future__ import annotations

import asyncio
import logging

import sqlalchemy as sa

from midas_pipelines.fourseller.http.calls import FailedCall
from midas_pipelines.fourseller.http.retry_after import LONGEST_PAUSE
from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.store.database import Database

CHANNEL_DOWN = "channel_down"

log = logging.getLogger(__name__)


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
