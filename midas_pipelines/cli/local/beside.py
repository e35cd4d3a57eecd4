"""Commands beside a running `midas dev`: they take its shop, sandbox and history, with nothing to export."""

from __future__ import annotations

import json
import os
from pathlib import Path

WORKPLACE = ".midas"  # the folder of demo and dev, where no other is named
ENVIRONMENT = "environment.json"
OWN = ("demo", "dev", "sandbox")  # commands that make a workplace or need none


def leave_environment(root: Path) -> None:
    """Writes this process's settings into the workplace, for this user alone."""
    names = [name for name in os.environ if name.startswith(("MIDAS_", "FOURSELLER_", "DAGSTER_HOME"))]
    path = root / ENVIRONMENT
    path.touch(mode=0o600)
    path.write_text(json.dumps({name: os.environ[name] for name in names}))


def join_workplace(command: str, root: Path = Path(WORKPLACE)) -> str | None:
    """Takes the settings of the demo or dev that runs in this folder and says so, unless the environment, which goes
    first, names a shop or an account. `command` is the first word after `midas`."""
    named = any(os.environ.get(name) for name in ("MIDAS_DATABASE_URL", "FOURSELLER_API_KEY"))
    path = root / ENVIRONMENT
    if named or command in OWN or not path.is_file() or not _at_work(root):
        return None
    for name, value in json.loads(path.read_text()).items():
        os.environ[name] = os.environ.get(name) or value
    return f"Using the sample shop that runs in {root.resolve()}, since MIDAS_DATABASE_URL is not set."


def idle_advice(root: Path = Path(WORKPLACE)) -> str:
    """What to do where the sample shop of a demo is here and does not run; empty where there is none."""
    if not (root / "shop.db").is_file():
        return ""
    return f"`midas dev` starts the sample shop in {root}; beside it nothing needs to be set."


def _at_work(root: Path) -> bool:
    """Whether a process of this user holds the workplace's lock."""
    import fcntl  # not on Windows, where no workplace can be held

    lock = root / "lock"
    if not lock.is_file() or lock.stat().st_uid != os.getuid():
        return False
    with lock.open() as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
