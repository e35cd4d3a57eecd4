"""Databases that only the tests of our own tables need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from midas_pipelines.store.database import Database
from midas_pipelines_tests.conftest import create_shop, empty
from midas_pipelines_tests.copies import PostgresCopies, connect
from midas_pipelines_tests.shop import run
from midas_pipelines_tests.sync.conftest import background_sandbox, world  # noqa: F401 - fixtures


@pytest.fixture
def postgresql_schema(postgresql_copies: PostgresCopies) -> Iterator[Database]:
    """A shop whose tables are in a schema named `Shop`, on the connection's search path."""
    url = postgresql_copies.fresh(empty)
    with connect(url) as database:
        run(database, 'CREATE SCHEMA "Shop"')
    with connect(f"{url}?options=-csearch_path%3D%22Shop%22") as database:
        create_shop(database)
        yield database
    postgresql_copies.drop(url)
