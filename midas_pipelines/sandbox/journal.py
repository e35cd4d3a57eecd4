"""The sandbox's memory on disk: a file of JSON lines, appended as things change, rewritten whole at the start.

Every change is handed to the operating system before the call is answered, so the file survives a SIGKILL up to the
last answered call (not a loss of power: nothing is fsynced). A line torn by the kill is dropped when it is read.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

Entry = tuple[str, str, Any]  # kind, id, value (None: removed)


class Journal:
    """An append-only record of (kind, id, value); the last one for an id counts."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def read(self) -> Iterator[Entry]:
        """The entries in the order they were written; none when the file does not exist."""
        if not os.path.exists(self._path):
            return
        with open(self._path, "rb") as lines:
            for line in lines:
                try:
                    kind, key, value = json.loads(line)
                except ValueError:
                    return  # the torn end
                yield kind, key, value

    def start(self, entries: Iterator[Entry]) -> None:
        """Replaces the file, atomically, by these entries and goes on appending to it."""
        self.close()
        beside = f"{self._path}.new"
        with open(beside, "wb") as fresh:
            fresh.writelines(_line(entry) for entry in entries)
        os.replace(beside, self._path)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)

    def note(self, kind: str, key: str, value: Any) -> None:
        """Appends one entry."""
        if self._file is not None:
            os.write(self._file, _line((kind, key, value)))

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(entry: Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
