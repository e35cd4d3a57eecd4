"""What every benchmark is made of: a shop, a sandbox in a process of its own, and a result."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.settings import Settings, load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.migrate import upgrade
from midas_pipelines.storefront import sample
from midas_pipelines_tests.postgres import PrivatePostgres


@dataclass(frozen=True)
class Result:
    """One measured promise: `value` held against `target`, in words that say the unit and the limit or peer."""

    promise: str
    measured: str
    target: str
    kept: bool
    detail: str = ""
    numbers: dict[str, float] = field(default_factory=dict)  # for a picture


@contextmanager
def shop_url(kind: str) -> Iterator[str]:
    """The address of an empty database of that kind, removed afterwards: `sqlite`, or a private `postgresql`."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="midas-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'shop.db'}"
        return
    server = PrivatePostgres()
    try:
        yield server.url("postgres")
    finally:
        server.stop()


@contextmanager
def sample_shop(kind: str, items: int = sample.CATALOGUE_SIZE) -> Iterator[Database]:
    """A seeded shop with our tables and triggers."""
    with shop_url(kind) as url, Database(load_settings(database_url=url).database()) as database:
        with database.writing() as connection:
            sample.create_shop_tables(connection)
            sample.seed_shop(connection, items=items)
        upgrade(database)
        yield database


def settings_of(database: Database, sandbox: BackgroundSandbox, **more: object) -> Settings:
    """The settings of an engine between the two."""
    given = {
        "database_url": database.engine.url.render_as_string(hide_password=False),
        "fourseller_api_url": sandbox.url,
        "fourseller_api_key": sandbox.config.api_key,
        "fourseller_seller_id": sandbox.config.seller_id,
    }
    return load_settings(**(given | more))


def channel_settings(database: Database, sandbox: BackgroundSandbox) -> dict[str, str]:
    """The same as the environment of another process."""
    return {
        "MIDAS_DATABASE_URL": database.engine.url.render_as_string(hide_password=False),
        "FOURSELLER_API_URL": sandbox.url,
        "FOURSELLER_API_KEY": sandbox.config.api_key,
        "FOURSELLER_SELLER_ID": sandbox.config.seller_id,
    }


@contextmanager
def sandbox(**config: object) -> Iterator[BackgroundSandbox]:
    """A sandbox in a process of its own, as it would be beside the engine."""
    with BackgroundSandbox(SandboxConfig(**config)) as running:  # type: ignore[arg-type]
        yield running


def machine() -> str:
    """What this was measured on."""
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
