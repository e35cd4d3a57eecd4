"""Several things at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable


def at_once(acts: list[Callable[[], object]]) -> None:
    """Runs all of them at the same moment, each in a thread of its own; raises what one of them raised."""
    barrier = threading.Barrier(len(acts), timeout=30)
    failures: list[BaseException] = []

    def work(act: Callable[[], object]) -> None:
        barrier.wait()
        try:
            act()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
