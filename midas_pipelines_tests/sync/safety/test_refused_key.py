"""A refused key: one alert, pushes paused, imports tried now and then, all of it resumed by a key that works."""

from __future__ import annotations

import asyncio

import pytest

from midas_pipelines.fourseller.errors import BadCredentials, NeedsNewKey
from midas_pipelines.lib.doctor.report import channel_lines
from midas_pipelines.store.operations.cursors import ErrorBook
from midas_pipelines.sync.context import SyncContext, accept_key, key_is_refused
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.product_sync import sync_products
from midas_pipelines_tests.shop import add_product, rows, run
from midas_pipelines_tests.sync.world import World

OPEN = "SELECT kind FROM alerts WHERE cleared_at IS NULL"


@pytest.fixture
def locked_out(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """4Seller refuses the key, and has done so once."""
    add_product(world.database, sku="SCR-1")
    monkeypatch.setattr(world.sandbox, "_bearer", b"Bearer another")
    with pytest.raises(BadCredentials):
        world.full()
    return world


def test_pushes_stop_and_imports_try_it_now_and_then(locked_out: World) -> None:
    for _ in range(3):
        with pytest.raises(NeedsNewKey, match="midas doctor --new-key"):
            locked_out.incremental()
        with pytest.raises(NeedsNewKey):
            locked_out.import_orders()
    assert rows(locked_out.database, OPEN) == [("needs_new_key",)]
    run(
        locked_out.database,
        "UPDATE midas_cursors SET moment = '2026-01-01 00:00:00' WHERE name LIKE 'refused key%'",
    )
    with pytest.raises(BadCredentials, match="refused the credentials"):
        locked_out.import_orders()
    with pytest.raises(NeedsNewKey):
        locked_out.import_orders()


@pytest.mark.parametrize("way", ["doctor", "import", "setting"])
def test_a_key_that_works_resumes_all(locked_out: World, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    key = locked_out.background.config.api_key if way != "setting" else "the-new-key"
    monkeypatch.setattr(locked_out.sandbox, "_bearer", f"Bearer {key}".encode())
    settings = locked_out.settings
    if way == "doctor":
        found = list(channel_lines(settings, locked_out.database, new_key=True))
        assert "pushes go on" in " ".join(line.found for line in found)
    elif way == "import":
        run(
            locked_out.database,
            "UPDATE midas_cursors SET moment = '2026-01-01 00:00:00' WHERE name LIKE 'refused key%'",
        )
        asyncio.run(import_orders(SyncContext(settings, locked_out.database)))
    else:
        locked_out.changes["fourseller_api_key"] = key
    asyncio.run(sync_products(SyncContext(locked_out.settings, locked_out.database)))
    assert locked_out.shown == locked_out.wanted
    assert rows(locked_out.database, OPEN) == []


def test_a_worker_that_waits_does_not_refuse_again_what_another_process_resumed(locked_out: World) -> None:
    context = locked_out.sync_context()

    async def wait() -> None:
        async with context.channel(ErrorBook(locked_out.database, None)) as client:
            with pytest.raises(BadCredentials):
                await client.product("P1")
            context.keep_notes(client)
            accept_key(locked_out.database, locked_out.settings.channel())
            context.keep_notes(client)
            assert not key_is_refused(locked_out.database, locked_out.settings.channel())

    asyncio.run(wait())
