from collections.abc import Iterator

import pytest

from midas_pipelines.fourseller.http import rate_limit
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import SandboxConfig


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
    app.state.clear()
    app.calls.clear()
    app.faults.set({})
    app.habits.set()
    app.faults.latency_ms, app.faults.slow_seconds = 0, 0.05
    app.limit.set(None)
    return one_sandbox


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in hundredths: the waits are the same in kind and cost the suite nothing."""
    import tenacity

    monkeypatch.setattr(rate_limit, "_BACK_OFF", tenacity.wait_random_exponential(multiplier=0.01, max=0.02))
