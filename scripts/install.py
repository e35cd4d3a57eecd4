"""Installs the packages of one lock file into .venv: with uv where it can be had, else with pip.

Run by `make` as `.venv/bin/python scripts/install.py requirements.lock`. Both installers take the same hash-locked
file; uv needs about a tenth of the time. Both use the package index that pip is set to. Prints how far it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

VENV = Path(sys.prefix)
PIP = [sys.executable, "-m", "pip"]
QUIET = ["--disable-pip-version-check", "--no-input", "--no-warn-script-location"]
HERE = ["--no-deps", "--no-build-isolation", "--editable", "."]
UV_SETTINGS = {  # pip's name of a setting: uv's variable for the same
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}


def main(lock: str) -> int:
    """Installs what `lock` names, then this project; returns the exit code of the installer."""
    count = len(re.findall(r"^[A-Za-z0-9]\S*==", Path(lock).read_text(), flags=re.M))
    say(f"Installing the packages of {lock} into {VENV.name}.")
    uv = find_uv()
    if uv is not None and install_with_uv(uv, lock):
        return 0
    say("Installing with pip, which takes a minute or two.")
    return install_with_pip(lock, count)


def find_uv() -> str | None:
    """The path of uv: the one on PATH, or one installed into .venv now; None where there is none to be had."""
    inside = VENV / "bin" / "uv"
    found = shutil.which("uv") or (str(inside) if inside.exists() else None)
    if found is None:
        done = subprocess.run([*PIP, "install", "--quiet", *QUIET, "uv"], capture_output=True, check=False)
        found = str(inside) if done.returncode == 0 and inside.exists() else None
    return found


def install_with_uv(uv: str, lock: str) -> bool:
    """Whether uv installed everything."""
    same_as_pip = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_LINK_MODE": link_mode(uv)}
    environment = {
        **uv_settings(),
        **same_as_pip,
        **os.environ,
    }  # any index may serve a file: its hash is known
    install = [uv, "pip", "install", "--python", sys.executable]
    commands = ([*install, "--require-hashes", "--requirements", lock], [*install, "--quiet", *HERE])
    return all(subprocess.run(command, env=environment, check=False).returncode == 0 for command in commands)


def uv_settings() -> dict[str, str]:
    """pip's settings of where packages come from, under uv's names: uv does not read pip's configuration."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    given = dict(re.findall(r"^\S*?\.([a-z-]+)='(.*)'$", listed, flags=re.M))  # the environment comes last
    return {variable: given[name] for name, variable in UV_SETTINGS.items() if given.get(name)}


def link_mode(uv: str) -> str:
    """Hard links where uv's cache is on the same disk as .venv, else copies, which uv would warn about."""
    cache = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=False).stdout.strip()
    place = Path(cache) if cache else Path("/")
    while not place.exists():
        place = place.parent
    return "hardlink" if place.stat().st_dev == VENV.stat().st_dev else "copy"


def install_with_pip(lock: str, count: int) -> int:
    """pip's exit code; prints one line for each tenth of the packages, and pip's own lines only if it fails."""
    command = [*PIP, "install", *QUIET, "--progress-bar", "off", "--require-hashes", "-r", lock]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        seen = 0
        for line in running.stdout or ():
            lines.append(line.rstrip())
            if line.startswith(("Collecting ", "Processing ")):
                seen += 1
                if seen % max(1, count // 10) == 0:
                    say(f"  {seen} of {count}")
            elif line.startswith("Installing collected"):
                say("  unpacking")
    if running.returncode:
        say("\n".join(lines[-20:]))
        return running.returncode
    return subprocess.run([*PIP, "install", "--quiet", *QUIET, *HERE], check=False).returncode


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
