"""A shop with a past, and the settings of its backups."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyrage import x25519

from midas_pipelines_tests.cli.conftest import settings  # noqa: F401 - a fixture
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.conftest import background_sandbox, world  # noqa: F401 - fixtures
from midas_pipelines_tests.sync.world import World


@pytest.fixture
def safe(world: World, tmp_path: Path) -> World:  # noqa: F811
    """A shop with two listed items, one sold order, and backups to a folder."""
    identity = x25519.Identity.generate()
    file = tmp_path / "identity"
    file.write_text(str(identity))
    world.changes |= {
        "backup_to": str(tmp_path / "backups"),
        "backup_recipients": str(identity.to_public()),
        "backup_identity_file": file,
    }
    add_product(world.database, sku="A", stock_quantity=10)
    add_product(world.database, sku="B", stock_quantity=10)
    world.full()
    world.place(("A", 2), id="before")
    world.import_orders()
    world.inventory()
    return world
