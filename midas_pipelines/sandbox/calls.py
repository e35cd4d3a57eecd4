"""The record of calls to the sandbox: the last ones in full, and counts of all."""

from collections import Counter, deque
from typing import Any

from midas_pipelines.sandbox.state import now_text

KEPT = 500


class CallLog:
    """The last calls, newest last, and counts by `METHOD status`; a call left without an answer has status 0."""

    def __init__(self) -> None:
        self.last: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.counts: Counter[tuple[str, int]] = Counter()

    def note(self, method: str, path: str, status: int, fault: str | None, seconds: float) -> None:
        """Records one call."""
        self.counts[method, status] += 1
        self.last.append(
            {
                "method": method,
                "path": path,
                "status": status,
                "at": now_text(),
                "fault": fault,
                "ms": round(seconds * 1000, 1),
            }
        )

    def clear(self) -> None:
        """Forgets all."""
        self.last.clear()
        self.counts.clear()

    def by_method(self) -> dict[str, dict[str, int]]:
        """Counts as `{method: {status: count}}`."""
        table: dict[str, dict[str, int]] = {}
        for (method, status), count in sorted(self.counts.items()):
            table.setdefault(method, {})[str(status)] = count
        return table
