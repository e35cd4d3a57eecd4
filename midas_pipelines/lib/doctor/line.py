"""One line of the doctor's report, and how a probe becomes lines whatever happens in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What was checked, how it is, and what to do; `next_step` is empty where all is well."""

    check: str
    state: State
    found: str
    next_step: str = ""


def ok(check: str, found: str) -> Finding:
    """A line about something that is as it should be."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, next_step: str) -> Finding:
    """A line about something that works for now, or is not set."""
    return Finding(check, "warning", found, next_step)


def wrong(check: str, found: str, next_step: str) -> Finding:
    """A line about something that keeps the system from working."""
    return Finding(check, "wrong", found, next_step)


def probed(check: str, probe: Callable[[], Iterable[Finding]], next_step: str) -> list[Finding]:
    """The lines of a probe, up to one that says why it ended early.

    Args:
        check: names that last line.
        probe: yields lines.
        next_step: of that last line, where the error does not say it itself.
    """
    lines: list[Finding] = []
    try:
        for line in probe():
            lines.append(line)
    except ExpectedError as failed:
        lines.append(wrong(check, str(failed), next_step))
    except sa.exc.SQLAlchemyError as failed:
        reason = type(getattr(failed, "orig", None) or failed).__name__
        lines.append(wrong(check, f"The database did not answer as it should ({reason}).", next_step))
    except OSError as failed:
        lines.append(wrong(check, f"It failed: {failed.strerror or type(failed).__name__}.", next_step))
    return lines
