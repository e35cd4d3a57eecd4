"""Writes into the audit log who was not let in: at most one row a minute for each address and status."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

import sqlalchemy as sa

from midas_pipelines.gateway.api.callers import MOST_CALLERS, network
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import AuditEntry, note_refused

WINDOW_SECONDS = 60.0
MOST_ROWS = 120
"""Rows in a window, all addresses together: a flood from many of them does not fill the database."""

log = logging.getLogger(__name__)


class Refusals:
    """The refusals of one process; those that get no row are counted in the next row of their address."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}
        self._window, self._rows = 0.0, 0

    def due(self, address: str, status: int, now: float) -> int | None:
        """How many refusals before this one got no row, or None when this one gets none either.

        Args:
            address: the caller's.
            status: what was answered.
            now: in seconds.
        """
        if now - self._window >= WINDOW_SECONDS:
            self._window, self._rows = now, 0
            if len(self._seen) > MOST_CALLERS:
                self._seen.clear()
        key = (network(address), status)
        at, more = self._seen.get(key, (-WINDOW_SECONDS, 0))
        if now - at < WINDOW_SECONDS or self._rows >= MOST_ROWS:
            self._seen[key] = (at, more + 1)
            return None
        self._seen[key] = (now, 0)
        self._rows += 1
        return more

    async def note(self, entry: AuditEntry, status: int) -> None:
        """Writes the row if one is due; a database that does not take it changes nothing for the caller."""
        more = self.due(entry.remote or "local", status, time.monotonic())
        if more is None:
            return
        if more:
            entry = replace(entry, detail={"more": more})
        try:
            await asyncio.to_thread(self._write, entry, status)
        except sa.exc.SQLAlchemyError as failed:
            log.warning("A refused call is not in the audit log: %s.", type(failed).__name__)

    def _write(self, entry: AuditEntry, status: int) -> None:
        with self._database.writing() as connection:
            note_refused(connection, entry, status)
