"""A task that fails is started again, and the log says why."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from midas_pipelines.gateway.worker import supervisor
from midas_pipelines.gateway.worker.supervisor import Supervisor
from midas_pipelines.storefront.types import Backoff


@pytest.mark.parametrize(
    ("error", "traced"), [(sa.exc.OperationalError("x", None, Exception("gone")), False), (KeyError(), True)]
)
def test_a_database_that_is_away_is_one_line_and_a_bug_is_traced(
    error: Exception, traced: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RESTART", Backoff(first=0.01, longest=0.01))

    async def fail_once() -> None:
        watch, tries = Supervisor(), 0
        again = asyncio.Event()

        async def work(beat: supervisor.Beat) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise error
            again.set()
            await watch.pause(60)

        watch.start("push", work)
        await again.wait()
        await watch.stop(5)

    asyncio.run(fail_once())
    (record,) = caplog.records
    assert bool(record.exc_info) is traced
    assert type(error).__name__ in record.getMessage()
