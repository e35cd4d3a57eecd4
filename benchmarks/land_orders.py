"""What `orders.py` runs in dlt's own environment: lands a JSON file of orders in PostgreSQL, prints the seconds.

Given dlt's defaults, but for its telemetry and the folder it works in; its imports are not counted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}
FOLDER = tempfile.TemporaryDirectory(prefix="midas-bench-")  # removed at the end
os.environ["DLT_DATA_DIR"] = FOLDER.name
warnings.simplefilter("ignore")

import dlt  # type: ignore[import-not-found]  # noqa: E402


def pages(path: str) -> Iterator[list[dict[str, Any]]]:
    """The orders, page by page, as dlt likes them best."""
    with Path(path).open() as lines:
        for line in lines:
            yield json.loads(line)


def main(path: str, url: str) -> float:
    """Seconds from the first line of the JSON to the last commit."""
    pipeline = dlt.pipeline(
        "landing",
        pipelines_dir=FOLDER.name,
        destination=dlt.destinations.postgres(url),
        dataset_name="landed",
    )
    started = time.perf_counter()
    pipeline.run(pages(path), table_name="orders")
    return time.perf_counter() - started


if __name__ == "__main__":
    print(main(*sys.argv[1:3]))  # noqa: T201
