"""`make bench`: measures the promises, prints a table, writes `results.json` and the table in `README.md`."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Result, machine

HERE = Path(__file__).parent
SUBJECTS = (
    "products",
    "rate_limit",
    "orders",
    "catalogue_size",
    "scale",
    "realtime",
    "dagster_layer",
    "scale_out",
    "paths",
)
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def main(chosen: list[str]) -> int:
    """Measures the chosen subjects, or all; 1 when a promise is not kept on this machine."""
    unknown = [name for name in chosen if name not in SUBJECTS]
    if unknown:
        print(f"There is no benchmark {unknown[0]}: choose from {', '.join(SUBJECTS)}.", file=sys.stderr)  # noqa: T201
        return 2
    results: dict[str, list[Result]] = {}
    for name in chosen or SUBJECTS:
        results[name] = importlib.import_module(f"benchmarks.{name}").measure()
        _show(name, results[name])
    _keep(results)
    return 0 if all(result.kept for found in results.values() for result in found) else 1


def _show(name: str, results: list[Result]) -> None:
    table = Table("promise", "measured", "target", "kept", title=name, title_justify="left")
    for result in results:
        table.add_row(result.promise, result.measured, result.target, "yes" if result.kept else "NO")
    Console(width=150).print(table)


def _keep(results: dict[str, list[Result]]) -> None:
    """Renews the subjects that were measured and leaves the others as they were last measured."""
    path = HERE / "results.json"
    kept = json.loads(path.read_text())["results"] if path.exists() else {}
    kept |= {name: [asdict(result) for result in found] for name, found in results.items()}
    path.write_text(json.dumps({"machine": machine(), "results": kept}, indent=1) + "\n")
    lines = ["| promise | measured | target | kept |", "|---|---|---|---|"]
    for found in kept.values():
        for one in found:
            detail = f" ({one['detail']})" if one["detail"] else ""
            lines.append(
                f"| {one['promise']} | {one['measured']}{detail} | {one['target']} | {'yes' if one['kept'] else 'no'} |"
            )
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{BEGIN}\n{machine()}\n\n" + "\n".join(lines) + f"\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
