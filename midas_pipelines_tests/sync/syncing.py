"""A sync in a process of its own, to be killed: forked from a server that has imported all it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess

from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.sync.context import ChannelDown, SyncContext
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.product_sync import Mode, push_inventory, sync_products

_context = get_context("forkserver")
_context.set_forkserver_preload([__name__])


def start_syncing(settings: Settings, kinds: Sequence[str]) -> ForkServerProcess:
    """Begins these syncs one after the other, in another process; to be joined or killed by the caller."""
    process = _context.Process(target=_sync, args=(plain(settings), list(kinds)), daemon=True)
    process.start()
    return process


def plain(settings: Settings) -> dict[str, object]:
    """The settings as they can be sent to another process."""
    assert settings.database_url is not None
    assert settings.fourseller_api_key is not None
    return settings.model_dump(exclude_unset=True) | {
        "database_url": settings.database_url.get_secret_value(),
        "fourseller_api_key": settings.fourseller_api_key.get_secret_value(),
    }


def _sync(given: dict[str, object], kinds: list[str]) -> None:
    settings = Settings.model_validate(given)
    with Database(settings.database()) as database:
        for kind in kinds:
            with suppress(ChannelDown):
                asyncio.run(one_sync(SyncContext(settings, database), kind))


async def one_sync(context: SyncContext, kind: str) -> None:
    """A sync by its name."""
    match kind:
        case "full":
            await sync_products(context, Mode.FULL)
        case "incremental":
            await sync_products(context)
        case "inventory":
            await push_inventory(context)
        case "orders":
            await import_orders(context)
        case _:
            raise ValueError(kind)
