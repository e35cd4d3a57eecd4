from collections.abc import Iterator

import pytest

from midas_pipelines.fourseller import retrying
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import SandboxConfig


@pytest.fixture
def sandbox() -> Iterator[BackgroundSandbox]:
    """A fresh sandbox over real connections, in a thread of this process."""
    with BackgroundSandbox(SandboxConfig(seed=1)) as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in hundredths: the waits are the same in kind and cost the suite nothing."""
    import tenacity

    monkeypatch.setattr(retrying, "_BACK_OFF", tenacity.wait_random_exponential(multiplier=0.01, max=0.02))
