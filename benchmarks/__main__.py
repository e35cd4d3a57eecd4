"""`make bench`: measures the promises, prints a table, writes `results.json` and the table in `README.md`."""

from __future__ import annotations

import importlib
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Result, machine
from benchmarks.scale.picture import picture

RESULTS = Path(__file__).parent / "results.json"
README = Path(__file__).parent / "README.md"
PICTURE = Path(__file__).parent / "growth.svg"
SUBJECTS = (
    "products",
    "rate_limit",
    "orders",
    "scale.parse",
    "scale.unchanged",
    "scale.changes",
    "scale.bad_pages",
    "scale.order_poll",
    "realtime",
    "dagster_layer",
    "scale_out",
    "paths",
)
ON_REQUEST = ("scale.order_readings",)
"""Not among those that are measured where none is chosen: it takes long."""
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def main(chosen: list[str]) -> int:
    """Measures the chosen subjects, or all; 1 when a promise is not kept on this machine.

    Args:
        chosen: names of subjects, each with its sizes behind a colon where others than its own are meant:
            `scale.unchanged:10000,100000,1000000`.
    """
    every = (*SUBJECTS, *ON_REQUEST)
    wanted = [(name, sizes) for name, _, sizes in (one.partition(":") for one in chosen or SUBJECTS)]
    if unknown := [name for name, _ in wanted if name not in every]:
        print(f"There is no benchmark {unknown[0]}: choose from {', '.join(every)}.", file=sys.stderr)  # noqa: T201
        return 2
    kept = True
    for name, sizes in wanted:
        subject, began = importlib.import_module(f"benchmarks.{name}"), time.monotonic()
        results = subject.measure(*(int(size) for size in sizes.split(",") if size))
        _show(name, results)
        _keep(name, results, (time.monotonic() - began) / 60)
        kept = kept and all(result.kept for result in results)
    return 0 if kept else 1


def _show(name: str, results: list[Result]) -> None:
    table = Table("promise", "measured", "target", "kept", title=name, title_justify="left")
    for result in results:
        table.add_row(result.promise, result.measured, result.target, "yes" if result.kept else "NO")
    Console(width=150).print(table)


def _keep(name: str, results: list[Result], minutes: float) -> None:
    """Renews the rows that were measured, in the file and in the README, and leaves the others as they were last measured."""
    before = json.loads(RESULTS.read_text())
    found, took = before["results"], before.get("minutes", {}) | {name: round(minutes, 1)}
    rows = {row["promise"]: row for row in found.get(name, [])}
    day = datetime.now(UTC).date().isoformat()
    rows |= {result.promise: {"day": day} | asdict(result) for result in results}
    found[name] = list(rows.values())
    if name == "scale.unchanged":
        PICTURE.write_text(picture(found[name]))
    now = {"machine": machine(), "minutes": took, "results": found}
    RESULTS.write_text(json.dumps(now, indent=1) + "\n")
    README.write_text(readme(README.read_text(), now))


def readme(text: str, measured: dict[str, Any]) -> str:
    """The text of the README with the table of what `results.json` holds."""
    took = measured["minutes"]
    lines = [measured["machine"], "", "| promise | measured | target | kept | on |", "|---|---|---|---|---|"]
    for row in (row for subject in measured["results"].values() for row in subject):
        detail = f" ({row['detail']})" if row["detail"] else ""
        kept = "yes" if row["kept"] else "no"
        lines.append(
            f"| {row['promise']} | {row['measured']}{detail} | {row['target']} | {kept} | {row['day']} |"
        )
    lasted = ", ".join(f"`{subject}` {count:g}" for subject, count in took.items())
    lines += ["", f"Minutes that a subject took when it was last measured: {lasted}."] if took else []
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
