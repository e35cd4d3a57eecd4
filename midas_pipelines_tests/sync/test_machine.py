"""The state machine, short in the suite and long under `soak`."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from midas_pipelines.fourseller.http import rate_limit
from midas_pipelines.fourseller.http.wire import Wire
from midas_pipelines.store.database import Database
from midas_pipelines_tests.conftest import create_upgraded_shop
from midas_pipelines_tests.copies import Copies, connect
from midas_pipelines_tests.sandbox_thread import SandboxThread
from midas_pipelines_tests.sync.conftest import emptied
from midas_pipelines_tests.sync.machine import Life, SyncMachine
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch) -> Life:
    """A process that may die before and after each call to 4Seller."""
    life = Life()
    send = Wire.send

    async def send_or_die(wire: Wire, *given: Any) -> Any:
        life.event()
        answer = await send(wire, *given)
        life.event()
        return answer

    monkeypatch.setattr(Wire, "send", send_or_die)
    monkeypatch.setattr(rate_limit, "_BACK_OFF", tenacity.wait_random(0, 0.002))
    return life


def explore(
    copies: Copies,
    background: SandboxThread,
    life: Life,
    monkeypatch: pytest.MonkeyPatch,
    *,
    examples: int,
    steps: int,
) -> None:
    """So many histories of so many steps, the same ones each time."""

    used: dict[str, Database] = {}

    def machine() -> SyncMachine:
        if used:
            url, database = used.popitem()
            database.close()
            copies.drop(url)
        url = copies.fresh(create_upgraded_shop)
        used[url] = connect(url)
        world = World(used[url], background)
        emptied(world.background).honour_idempotency_key = False
        made = SyncMachine(world, life)
        monkeypatch.setitem(world.sandbox._run, "listProducts", made.page)
        return made

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_history_ends_equal(
    copies: Copies, background_sandbox: SandboxThread, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    explore(copies, background_sandbox, life, monkeypatch, examples=2, steps=14)


@pytest.mark.soak
def test_many_long_histories_end_equal(
    copies: Copies, background_sandbox: SandboxThread, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    explore(copies, background_sandbox, life, monkeypatch, examples=150, steps=50)
