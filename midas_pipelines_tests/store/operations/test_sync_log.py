"""What the log of syncs answers about the newest of each kind."""

from __future__ import annotations

from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines_tests.many_orders import scans
from midas_pipelines_tests.shop import run


def test_the_newest_sync_of_a_kind_is_found_by_its_index_though_many_of_another_came_after(
    postgresql_shop: Database,
) -> None:
    kinds = "CASE WHEN i < 7000 THEN 'products' ELSE 'gateway' END"
    rows = f"SELECT {kinds}, 'changed', 'done' FROM generate_series(1, 20000) AS i"
    run(postgresql_shop, f"INSERT INTO fourseller_sync_logs (kind, scope, outcome) {rows}")
    run(postgresql_shop, "ANALYZE fourseller_sync_logs")
    assert [row["id"] for row in last_syncs(postgresql_shop)] == [20000, 6999]
    assert scans(postgresql_shop, last_syncs) == []
