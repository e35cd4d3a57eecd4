"""The rule of the first connection: listings that are there already are written only after a person has looked."""

from __future__ import annotations

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import NotConnected
from midas_pipelines.store.operations.cursors import is_connected, note_connected
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.gate import FIRST
from midas_pipelines.sync.threads import in_thread


async def ensure_connected(context: SyncContext, client: FourSeller) -> None:
    """Returns where listings may be written; an account without listings is connected at once.

    Raises:
        NotConnected: the account has listings, and `midas connect accept` was not run.
        FourSellerError: the account could not be looked at.
    """
    gate = context.gate
    if gate.connected or context.settings.shadows("incremental_sync"):
        return
    if not await in_thread(is_connected, context.database):
        page = await anext(client.product_pages())
        if page.rows or page.total:
            raise NotConnected(FIRST)
        await in_thread(_note, context)
    gate.connected = True


def _note(context: SyncContext) -> None:
    with context.database.writing() as connection:
        note_connected(connection)
