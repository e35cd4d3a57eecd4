from collections.abc import Iterator

import httpx
import pytest

from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import SandboxConfig

CREDENTIALS = {"Authorization": "Bearer sandbox-key", "X-Seller-ID": "sandbox-seller"}


@pytest.fixture(scope="session")
def one_sandbox() -> Iterator[BackgroundSandbox]:
    """One server for all tests, for starting and stopping one takes longer than most of them."""
    with BackgroundSandbox(SandboxConfig(seed=1)) as running:
        yield running


@pytest.fixture
def sandbox(one_sandbox: BackgroundSandbox) -> BackgroundSandbox:
    """An empty sandbox over real connections, in a thread of this process."""
    app = one_sandbox.app
    assert app is not None
    app.webhooks.configure({"url": None, "secret": None, "duplicates": 0, "reorder": 0})
    app.state.clear()
    app.calls.clear()
    app.faults.set({})
    app.habits.set()
    app.faults.latency_ms = 0
    app.limit.set(None)
    return one_sandbox


@pytest.fixture
def api(sandbox: BackgroundSandbox) -> Iterator[httpx.Client]:
    """Calls to the API with good credentials, paths below /v1."""
    with httpx.Client(base_url=sandbox.url, headers=CREDENTIALS) as client:
        yield client


@pytest.fixture
def control(sandbox: BackgroundSandbox) -> Iterator[httpx.Client]:
    """Calls to the controls, paths below /__sandbox."""
    with httpx.Client(base_url=sandbox.control_url) as client:
        yield client
