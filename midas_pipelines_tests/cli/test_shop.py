"""`midas db`, `midas store` and `midas status` on both databases."""

from __future__ import annotations

from midas_pipelines.store.database import Database
from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import value


def test_a_fresh_database_becomes_a_shop_in_either_order(midas: Midas, database: Database) -> None:
    url = {"MIDAS_DATABASE_URL": database.engine.url.render_as_string(hide_password=False)}
    assert midas("db", "current", **url).code == 1
    assert midas("db", "upgrade", "--json", **url).json["shop_tables_missing"]
    assert midas("store", "seed", "--products", "30", "--json", **url).json["items_added"] == 30
    assert midas("db", "current", "--json", **url).json["ready"] is True
    assert midas("store", "seed", "--products", "30", "--json", **url).json["items_added"] == 0
    assert value(database, "SELECT count(*) FROM fourseller_product_mappings") == 30


def test_status_tells_what_waits(midas: Midas, database: Database) -> None:
    url = {"MIDAS_DATABASE_URL": database.engine.url.render_as_string(hide_password=False)}
    midas("store", "seed", "--products", "10", **url)
    told = midas("status", "--json", **url)
    assert (told.code, told.json["dirty"], told.json["items"]) == (0, 10, {"new": 10})
    assert "10 wait" in midas("status", **url).output
