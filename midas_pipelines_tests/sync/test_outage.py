"""When 4Seller is down: the run ends early, staff is told once, and the end of the outage closes the alert."""

from __future__ import annotations

import time

import pytest

from midas_pipelines.notify.alerts import open_subjects
from midas_pipelines.sandbox import config
from midas_pipelines.sync.context import ChannelDown
from midas_pipelines_tests.shop import add_product, run, value
from midas_pipelines_tests.sync.world import World


def _open(world: World) -> set[str]:
    with world.database.reading() as connection:
        return open_subjects(connection, "channel_down")


def test_an_outage_stops_the_run_and_is_told_once(world: World) -> None:
    world.changes["failures_in_a_row"] = 3
    for _ in range(12):
        add_product(world.database)
    world.faults(s503=1.0)
    for _ in range(2):
        with pytest.raises(ChannelDown):
            world.incremental(ignore_delays=True)
    assert _open(world) == {"fourseller"}
    assert value(world.database, "SELECT count(*) FROM alerts WHERE kind = 'channel_down'") == 1
    assert world.dirty == 12


def test_the_next_good_run_ends_the_outage(world: World) -> None:
    add_product(world.database)
    world.faults(s503=1.0)
    with pytest.raises(ChannelDown):
        world.full()
    assert value(world.database, "SELECT count(*) FROM midas_workers") == 0
    world.faults()
    assert world.full().created == 1
    assert _open(world) == set()


def test_while_4seller_is_down_one_read_decides_and_no_item_pays(world: World) -> None:
    world.changes["failures_in_a_row"] = 3
    for _ in range(12):
        add_product(world.database)
    world.faults(s503=1.0)
    with pytest.raises(ChannelDown):
        world.incremental()
    attempts = "SELECT sum(attempts) FROM fourseller_product_mappings"
    before = value(world.database, attempts)
    world.calls()
    with pytest.raises(ChannelDown, match="still down"):
        world.incremental()
    assert world.calls() == {"GET": 3}
    assert value(world.database, attempts) == before


def test_a_long_pause_raises_an_alert_and_holds_up_no_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(12):
        add_product(world.database)
    world.full()
    tomorrow = str(int(time.time()) + 86_400)
    monkeypatch.setattr(config, "format_datetime", lambda *_, **__: tomorrow)
    monkeypatch.setattr(world.sandbox.faults, "coin", lambda: True)  # by a date, not by seconds
    world.sandbox.faults.script(["429"] * 99)
    run(world.database, "UPDATE products SET stock_quantity = 1")
    world.inventory()
    assert _open(world) == {"fourseller"}
    soon = "SELECT count(*) FROM fourseller_product_mappings WHERE attempts > 0 OR claimed_by IS NOT NULL"
    assert value(world.database, soon) == 0
