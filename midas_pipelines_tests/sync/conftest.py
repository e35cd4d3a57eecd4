"""The world of a sync: a fresh shop, and one sandbox per test process, emptied for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tenacity

from midas_pipelines.fourseller.http import rate_limit
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.sandbox.state import State
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.cursors import note_connected
from midas_pipelines_tests.sandbox_thread import SandboxThread
from midas_pipelines_tests.sync.world import World


@pytest.fixture(scope="session")
def background_sandbox() -> Iterator[SandboxThread]:
    with SandboxThread(SandboxConfig(seed=1)) as sandbox:
        yield sandbox


@pytest.fixture
def world(
    shop: Database, background_sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """An empty shop and an empty 4Seller."""
    monkeypatch.setattr(rate_limit, "_BACK_OFF", tenacity.wait_random(0, 0.005))
    world = World(shop, background_sandbox)
    with shop.writing() as connection:
        note_connected(connection)
    state = emptied(background_sandbox)
    for name in ("create", "replace"):
        monkeypatch.setattr(state, name, _guarded(world, getattr(State, name), state))
    yield world
    emptied(background_sandbox)


def emptied(background: SandboxThread) -> State:
    """The sandbox as new: nothing on it, nothing wrong with it."""
    sandbox = background.app
    sandbox.webhooks.configure({"url": None, "secret": None, "duplicates": 0, "reorder": 0})
    sandbox.state.clear()
    sandbox.state.honour_idempotency_key = True
    sandbox.faults.set({})
    sandbox.habits.set()
    sandbox.faults._random.seed(1)  # each test meets the same faults, whatever ran before it
    sandbox.faults.latency_ms = sandbox.faults.jitter_ms = 0.0
    sandbox.limit.set(None)
    sandbox.calls.clear()
    return sandbox.state


def _guarded(world: World, method: Any, state: State) -> Any:
    def act(*given: Any) -> Any:
        draft = next(part for part in given if isinstance(part, dict))
        world.guard(draft.get("sku"))
        return method(state, *given)

    return act
