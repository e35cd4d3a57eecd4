import pytest

from midas_pipelines.fourseller.http import rate_limit
from midas_pipelines_tests.sandbox_thread import SandboxThread
from midas_pipelines_tests.sync.conftest import background_sandbox, emptied  # noqa: F401 - a fixture


@pytest.fixture
def sandbox(background_sandbox: SandboxThread) -> SandboxThread:  # noqa: F811
    """An empty sandbox over real connections, in a thread of this process."""
    emptied(background_sandbox)
    background_sandbox.app.faults.slow_seconds = 0.05
    return background_sandbox


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in hundredths: the waits are the same in kind and cost the suite nothing."""
    import tenacity

    monkeypatch.setattr(rate_limit, "_BACK_OFF", tenacity.wait_random_exponential(multiplier=0.01, max=0.02))
