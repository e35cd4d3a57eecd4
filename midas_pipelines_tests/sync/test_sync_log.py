"""The progress of a sync in words, and in its log row."""

import pytest

from midas_pipelines.sync import sync_log
from midas_pipelines.sync.sync_log import progress_lines


def test_progress_is_said_once_a_second_with_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    moments, lines = iter([0.0, 0.5, 1.0, 2.5]), list[str]()
    monkeypatch.setattr(sync_log.time, "monotonic", lambda: next(moments))
    report = progress_lines(lines.append, "items")
    for done, failed in ((1, 0), (3, 0), (5, 1)):
        report(done, failed, 155)
    assert lines == [
        "1 of 155 items done, 0 failed; 2 a second, about 1.28 min left.",
        "5 of 155 items done, 1 failed; 2 a second, about 1.25 min left.",
    ]
