"""A gateway over real connections: its server in a thread, a fresh shop, the sandbox as 4Seller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from midas_pipelines.gateway.worker import webhook_worker
from midas_pipelines.store.gateway.keys import Role
from midas_pipelines_tests.gateway.running import Gateway, running_gateway
from midas_pipelines_tests.sync.conftest import background_sandbox, world  # noqa: F401 - fixtures
from midas_pipelines_tests.sync.world import World

Start = Callable[..., Gateway]


@pytest.fixture
def start(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:  # noqa: F811
    """Starts a gateway with settings of the test's own; each is stopped at the end."""
    monkeypatch.setattr(webhook_worker, "BUSY_SECONDS", 0.1)
    with ExitStack() as stack:

        def begin(**changes: Any) -> Gateway:
            return stack.enter_context(running_gateway(world, **changes))

        yield begin


@pytest.fixture
def gateway(start: Start) -> Gateway:
    """One gateway with a worker."""
    return start()


@pytest.fixture
def door(start: Start) -> Gateway:
    """One gateway without a worker: what comes in stays where it was put."""
    return start(with_worker=False)


@pytest.fixture
def keys(gateway: Gateway) -> dict[Role, str]:
    """A key of each role."""
    return {role: gateway.key(role) for role in Role}
