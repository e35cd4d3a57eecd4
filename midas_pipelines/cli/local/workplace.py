"""The folder in which demo and dev keep their sample shop, their sandbox's state and Dagster's history."""

from __future__ import annotations

import fcntl
import os
import secrets
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from pyrage import x25519

from midas_pipelines.cli.dagster.instance import write_dagster_yaml
from midas_pipelines.cli.local.beside import ENVIRONMENT, WORKPLACE, leave_environment
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.settings import Settings, load_settings
from midas_pipelines.store import migrate
from midas_pipelines.store.database import Database
from midas_pipelines.storefront import sample

API_KEY = "sandbox-key"
SELLER_ID = "sandbox-seller"
BACKUP_KEY = "backup-key"


class Workplace:
    """One folder with the sample shop's database and Dagster's history; nothing outside it is written."""

    def __init__(self, root: Path) -> None:
        self.root, self.shop, self.dagster_home = root, root / "shop.db", root / "dagster_home"

    @property
    def webhook_secret(self) -> str:
        """What the sandbox signs its webhooks with; made once."""
        return self._secret("webhook-secret", f"whsec_{b64encode(secrets.token_bytes(24)).decode()}")

    @property
    def backup_key(self) -> str:
        """What backups are encrypted to; made once."""
        secret = self._secret(BACKUP_KEY, str(x25519.Identity.generate()))
        return str(x25519.Identity.from_str(secret).to_public())

    def _secret(self, name: str, fresh: str) -> str:
        path = self.root / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(fresh)
        return path.read_text()

    def sandbox(self, *, port: int = 0, **how: Any) -> BackgroundSandbox:
        """A sandbox that goes on where the last one stopped."""
        state = str(self.root / "sandbox.db")
        config = SandboxConfig(api_key=API_KEY, seller_id=SELLER_ID, latency_ms=20.0, state_file=state, **how)
        return BackgroundSandbox(config, port=port)

    def prepare(self) -> None:
        """Makes the folders and gives Dagster its settings."""
        write_dagster_yaml(self.dagster_home, load_settings())

    def clear_shop(self) -> None:
        """Deletes the sample shop and the sandbox's state; Dagster's history stays."""
        for path in (*self.root.glob("shop.db*"), *self.root.glob("sandbox.db*")):
            path.unlink()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps a second demo or dev out of this folder. Raises click.ClickException when one is at work there."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise click.ClickException(
                    f"Another `midas demo` or `midas dev` is at work in {self.root}: stop it first."
                ) from None
            environment = self.root / ENVIRONMENT
            environment.unlink(missing_ok=True)  # of one that was killed
            try:
                yield
            finally:
                environment.unlink(missing_ok=True)

    def enter(self, api_url: str) -> Settings:
        """Points this process, those it starts and commands beside it at the sample shop; returns the settings."""
        os.environ |= {
            "MIDAS_DATABASE_URL": f"sqlite:///{self.shop.resolve()}",
            "FOURSELLER_API_URL": api_url,
            "FOURSELLER_API_KEY": API_KEY,
            "FOURSELLER_SELLER_ID": SELLER_ID,
            "FOURSELLER_WEBHOOK_SECRET": self.webhook_secret,
            "MIDAS_BACKUP_TO": str((self.root / "backups").resolve()),
            "MIDAS_BACKUP_RECIPIENTS": self.backup_key,
            "MIDAS_BACKUP_IDENTITY_FILE": str((self.root / BACKUP_KEY).resolve()),
            "DAGSTER_HOME": str(self.dagster_home.resolve()),
        }
        leave_environment(self.root)
        return load_settings()


def make_shop(database: Database, *, items: int = sample.CATALOGUE_SIZE, seed: int = 1) -> tuple[bool, int]:
    """Makes the sample shop, where it is not there yet, with our tables and triggers; returns whether it made the shop's
    tables, and how many items it added."""
    with database.writing() as connection:
        created = sample.create_shop_tables(connection)
        added = sample.seed_shop(connection, items=items, seed=seed)
    migrate.upgrade(database)
    return created, added


workplace_option = click.option(
    "--workplace",
    default=WORKPLACE,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the sample shop, the sandbox's state and Dagster's history.",
)
