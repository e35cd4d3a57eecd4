"""The peak memory of a process."""

from __future__ import annotations

from pathlib import Path


def peak_mb() -> float:
    """Most memory that this process has held, in MB. Not `ru_maxrss`, which on Linux also counts the process that started it."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
