"""The gate that every write to 4Seller passes on its way out: shadow mode, the first connection, a refused key."""

from __future__ import annotations

import json
from collections.abc import Sized
from typing import Any

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import NeedsNewKey, NotConnected, ShadowWrite
from midas_pipelines.fourseller.http.calls import Call
from midas_pipelines.notify.alerts import clear_alert, open_subjects, raise_alert
from midas_pipelines.settings import ChannelAccess, Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.cursors import (
    forget_refused_key,
    is_connected,
    key_refused_at,
    note_connected,
    note_refused_key,
    take_trial,
)
from midas_pipelines.store.operations.sightings import ShadowRow, record_shadow_writes
from midas_pipelines.sync.threads import in_thread

NEEDS_KEY, SUBJECT = "needs_new_key", "fourseller"
MOMENTS = ("timestamp", "updated_at")
MOST_KEPT = 5000
"""Writes kept in memory until they are written down."""

SHADOWED = "Shadow mode: it was recorded and not sent."
FIRST = (
    "4Seller has listings, and this shop was never connected to them: run `midas connect`, read what would change, "
    "then `midas connect accept`."
)


class Gate:
    """Checks each write of one client, and keeps what shadow mode holds back until `flush`.

    Args:
        settings: say what is in shadow mode.
        database: where it is recorded.
        run_id: written to each record.
        connected: whether listings may be written; set to True once the first connection is accepted.
    """

    def __init__(
        self, settings: Settings, database: Database, run_id: str | None, *, connected: bool
    ) -> None:
        self._settings = settings
        self._database = database
        self._run_id = run_id
        self._kept: list[ShadowRow] = []
        self.connected = connected

    def check(self, call: Call) -> None:
        """Lets a write pass.

        Raises:
            ShadowWrite: it was recorded instead.
            NotConnected: the first connection was not accepted.
        """
        kind = "status" if call.template.startswith("/orders") else "listing"
        kind = "quantity" if call.template.endswith("/inventory") else kind
        if self._settings.shadows(kind):
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
        """Returns where listings may be written; an account without listings is connected at once.

        Args:
            client: an open client.
            listed: all listings of the account, where they were just read.

        Raises:
            NotConnected: the account has listings, and `midas connect accept` was not run.
            FourSellerError: the account could not be looked at.
        """
        if self.connected or self._settings.shadows("listing"):
            return
        if not await in_thread(is_connected, self._database):
            page = await anext(client.product_pages()) if listed is None else None
            if listed or (page is not None and (page.rows or page.total)):
                raise NotConnected(FIRST)
            await in_thread(self._note_connected)
        self.connected = True

    def _note_connected(self) -> None:
        with self._database.writing() as connection:
            note_connected(connection)

    def flush(self) -> None:
        """Writes down what was kept."""
        kept, self._kept = self._kept, []
        record_shadow_writes(self._database, kept, self._run_id)


def key_is_refused(database: Database, access: ChannelAccess) -> bool:
    """Whether 4Seller refused this key, and has not taken it since."""
    with database.reading() as connection:
        return key_refused_at(connection, access) is not None


def require_key(database: Database, access: ChannelAccess, *, tries: bool) -> None:
    """Returns where 4Seller may be called: the key is not refused, or a caller that `tries` it now and then may again.

    Raises:
        NeedsNewKey: the key was refused before, and is not tried now.
    """
    with database.reading() as connection:
        refused = key_refused_at(connection, access)
    if refused is None or (tries and take_trial(database, access)):
        return
    raise NeedsNewKey(
        f"4Seller refused the key at {refused:%Y-%m-%d %H:%M} UTC. Nothing is pushed, and imports try it every 15 "
        "minutes. Set FOURSELLER_API_KEY to a new key, or run `midas doctor --new-key` once 4Seller takes this one again."
    )


def refuse_key(database: Database, access: ChannelAccess) -> None:
    """Puts the installation into *needs a new key*, with one alert."""
    with database.writing() as connection:
        if note_refused_key(connection, access):
            text = (
                "4Seller refuses the key: nothing is pushed, and imports try it every 15 minutes. Make a new key at "
                "4Seller and set FOURSELLER_API_KEY, or run `midas doctor --new-key` once it takes this one again."
            )
            raise_alert(connection, kind=NEEDS_KEY, subject=SUBJECT, text=text)


def accept_key(database: Database, access: ChannelAccess) -> bool:
    """Ends *needs a new key*, for 4Seller has just taken this key; True where this key or the one before was refused."""
    with database.reading() as connection:
        refused = key_refused_at(connection, access) is not None
        if not refused and not open_subjects(connection, NEEDS_KEY):
            return False
    with database.writing() as connection:
        forget_refused_key(connection, access)
        clear_alert(connection, kind=NEEDS_KEY, subject=SUBJECT)
    return True
