from collections.abc import Iterator

import httpx
import pytest

from midas_pipelines_tests.sandbox_thread import SandboxThread
from midas_pipelines_tests.sync.conftest import background_sandbox, emptied  # noqa: F401 - a fixture

CREDENTIALS = {"Authorization": "Bearer sandbox-key", "X-Seller-ID": "sandbox-seller"}


@pytest.fixture
def sandbox(background_sandbox: SandboxThread) -> SandboxThread:  # noqa: F811
    """An empty sandbox over real connections, in a thread of this process."""
    emptied(background_sandbox)
    return background_sandbox


@pytest.fixture
def api(sandbox: SandboxThread) -> Iterator[httpx.Client]:
    """Calls to the API with good credentials, paths below /v1."""
    with httpx.Client(base_url=sandbox.url, headers=CREDENTIALS, verify=False) as client:
        yield client


@pytest.fixture
def control(sandbox: SandboxThread) -> Iterator[httpx.Client]:
    """Calls to the controls, paths below /__sandbox."""
    with httpx.Client(base_url=sandbox.control_url, verify=False) as client:
        yield client
