"""Child processes that never outlive the command that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

GRACE_SECONDS = 20.0
PR_SET_CHILD_SUBREAPER = 36
PR_SET_PDEATHSIG = 1


class Children:
    """A context that stops every process started in it, and what those started, however deep.

    On Linux this process becomes the reaper of orphans, so that a grandchild whose parent has gone is still found.
    """

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signal_number, patience in ((signal.SIGINT, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
            for child in self._started:
                _signal_group(child, signal_number)
            if self._all_gone(patience):
                return

    def start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Starts a command in a group of its own, its output going to `log`; a terminal's Ctrl-C does not reach it."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self._started.append(child)
        return child

    def _all_gone(self, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            for child in self._started:
                child.poll()
            _reap_orphans({child.pid for child in self._started})
            if not any(_group_lives(child.pid) for child in self._started):
                return True
            time.sleep(0.1)
        return False


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _reap_orphans(ours: set[int]) -> None:
    for group in ours:
        try:
            while os.waitpid(-group, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue
