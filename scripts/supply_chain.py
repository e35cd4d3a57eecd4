"""What we ship: known faults of the locked versions, the bill of materials (CycloneDX), and a list of licences.

`python scripts/supply_chain.py` writes `build/sbom.cdx.json` and `build/licenses.csv`, and exits 1 when a locked version
has a known fault. Where the index of faults cannot be reached, or knows no package, it says NOT AUDITED and passes.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
BUILD = ROOT / "build"
SECONDS = 120


def locked() -> list[str]:
    """The names in the lock."""
    return re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", LOCK.read_text(), re.MULTILINE)


def audit() -> int:
    """Prints the known faults of the locked versions; 1 where there are some, or where pip-audit itself fails."""
    options = [
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner",
        "off",
        "--timeout",
        "5",
        "-f",
        "json",
    ]
    try:
        done = run("pip-audit", "-r", LOCK, *options)
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"NOT AUDITED: the index of known faults did not answer within {SECONDS} s.")
        return 0
    except (ValueError, KeyError):
        if "ServiceError" in done.stderr or "onnection" in done.stderr:
            print("NOT AUDITED: offline, the index of known faults does not answer.")
            return 0
        print(f"NOT AUDITED: pip-audit failed:\n{done.stderr}")
        return 1
    lines, failed = judged(found)
    print("\n".join(lines))
    return failed


def judged(found: list[dict[str, Any]]) -> tuple[list[str], int]:
    """What to print of pip-audit's answer, and 1 where a version has a known fault. Pure."""
    unknown = [one["name"] for one in found if "skip_reason" in one]
    lines = [
        f"{one['name']} {one['version']} has the known fault {fault['id']}: renew it with `make lock`."
        for one in found
        for fault in one.get("vulns", [])
    ]
    failed = int(bool(lines))
    if len(unknown) == len(found):
        return [f"NOT AUDITED: the index knows none of the {len(found)} locked packages."], 0
    lines.append(f"{len(found) - len(unknown)} packages audited, {len(lines)} known faults.")
    if unknown:
        lines.append(f"NOT AUDITED, for the index does not know them: {', '.join(unknown)}.")
    return lines, failed


def write_bill() -> int:
    """Writes the bill of materials."""
    target = BUILD / "sbom.cdx.json"
    done = run("cyclonedx-py", "requirements", LOCK, "--output-reproducible", "--of", "JSON", "-o", target)
    print(f"{target.relative_to(ROOT)} written." if done.returncode == 0 else done.stderr)
    return done.returncode


def write_licenses() -> None:
    """Writes the licence of each locked package, as its own metadata names it."""
    rows = []
    for name in sorted(set(locked()), key=str.lower):
        try:
            about = metadata(name)
        except PackageNotFoundError:  # for another platform, or of an extra
            rows.append((name, "", "not installed here"))
            continue
        trove = [
            line.rpartition(" :: ")[2]
            for line in about.get_all("Classifier") or []
            if line.startswith("License")
        ]
        words = (
            about.get("License-Expression") or "; ".join(trove) or (about.get("License") or "").split("\n")[0]
        )
        rows.append((name, about["Version"], words[:80] or "unknown"))
    target = BUILD / "licenses.csv"
    with target.open("w", newline="") as file:
        csv.writer(file).writerows([("package", "version", "license"), *rows])
    print(f"{target.relative_to(ROOT)} written: {len(rows)} packages.")


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A program of this environment."""
    path = Path(sys.executable).with_name(program)
    command = [str(path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    write_licenses()
    failed = write_bill()
    sys.exit(audit() or failed)
