"""The audit log is a chain: what is changed or missing is found, old rows go from its beginning, young ones never."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import audit
from midas_pipelines.store.gateway.audit import AuditEntry, kept, note_audit, verify_audit
from midas_pipelines.store.schema.triggers import amending
from midas_pipelines.storefront.types import utc_now
from midas_pipelines_tests.shop import rows, run, unguarded


@pytest.fixture
def note(shop: Database, monkeypatch: pytest.MonkeyPatch):
    def add(actor: str, age_days: int = 0) -> None:
        monkeypatch.setattr(audit, "utc_now", lambda offset=0: utc_now(offset - age_days * 86400))
        with shop.writing() as connection:
            note_audit(connection, AuditEntry(actor, "POST", detail={"skus": ["A", "B"], "n": 1}), "asked")
        monkeypatch.undo()

    return add


def actors(shop: Database) -> list[str]:
    return [row.actor for row in rows(shop, "SELECT actor FROM gateway_audit ORDER BY id")]


def problems(shop: Database) -> tuple[str, ...]:
    with shop.reading() as connection:
        return verify_audit(connection).problems


def test_old_rows_go_until_all_blocks_are_done_and_the_chain_is_whole(shop: Database, note) -> None:
    for _ in range(5):
        note("old", 401)
    note("young", 399)
    assert audit.delete_old_audit_rows(shop, days=400, block=2) == 5
    assert (actors(shop), problems(shop)) == (["young"], ())


@pytest.mark.parametrize(("age", "refused"), [(364, True), (366, False)])
def test_a_young_row_stays_and_none_is_ever_changed(shop: Database, note, age: int, refused: bool) -> None:
    note("somebody", age)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        run(shop, "UPDATE gateway_audit SET actor = 'another'")
    if refused:
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            audit.delete_old_audit_rows(shop, days=80)
    else:
        assert audit.delete_old_audit_rows(shop, days=80) == 1
    assert actors(shop) == (["somebody"] if refused else [])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE gateway_audit SET actor = 'x' WHERE id = 2", "Row 2 was changed"),
        ("UPDATE gateway_audit SET status = 200 WHERE id = 4", "Row 4 was changed"),
        ("DELETE FROM gateway_audit WHERE id = 3", "before row 4"),
        ("DELETE FROM gateway_audit WHERE id = 1", "before row 2"),
        ("DELETE FROM gateway_audit WHERE id = 5", "after row 4"),
        ("DELETE FROM gateway_audit", "after row 0"),
        ("DELETE FROM gateway_audit_head", "The head of the log is missing"),
    ],
)
def test_a_changed_or_missing_row_is_found(shop: Database, note, change: str, found: str) -> None:
    for number in range(5):
        note(f"actor {number}")
    assert problems(shop) == ()
    with unguarded(shop, "gateway_audit") as connection:
        connection.exec_driver_sql(change)
    assert found in " ".join(problems(shop))


def test_writers_at_the_same_time_make_one_chain(shop: Database) -> None:
    def write() -> None:
        for _ in range(10):
            with shop.writing() as connection:
                note_audit(connection, AuditEntry("someone", "POST"), "asked")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(actors(shop)), problems(shop)) == (40, ())


@pytest.mark.parametrize("table", ["gateway_audit", "inventory_changes", "order_processing_logs"])
def test_no_guarded_table_is_emptied(postgresql_shop: Database, table: str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        run(postgresql_shop, f"TRUNCATE {table} CASCADE")


@pytest.mark.parametrize("statement", ["UPDATE {} SET id = id + 1", "DELETE FROM {}"])
@pytest.mark.parametrize("table", ["inventory_changes", "order_processing_logs"])
def test_ledger_and_order_log_change_through_their_door_alone(
    shop: Database, table: str, statement: str
) -> None:
    run(
        shop,
        "INSERT INTO inventory_changes (product_id, delta, quantity_after, source, cause) "
        "VALUES (1, 1, 1, 'website', 'opening')",
    )
    run(shop, "INSERT INTO order_processing_logs (marketplace_order_id, step) VALUES ('A', 'imported')")
    with shop.writing() as connection, amending(connection):
        connection.exec_driver_sql(f"UPDATE {table} SET id = id + 7")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        run(shop, statement.format(table))
    with shop.writing() as connection, amending(connection):
        assert connection.exec_driver_sql(f"DELETE FROM {table}").rowcount == 1


def test_no_row_is_replaced(sqlite_shop: Database) -> None:
    with sqlite_shop.writing() as connection:
        note_audit(connection, AuditEntry("someone", "POST"), "asked")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        run(sqlite_shop, "INSERT OR REPLACE INTO gateway_audit SELECT * FROM gateway_audit")


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("jane@example.com", "(not kept)"),
        ("Jane Doe", "(not kept)"),
        ("1Z999AA10123456784", "1Z999AA10123456784"),
        ({"email": "x", "sku": "MD-1/2"}, {"email": "(not kept)", "sku": "MD-1/2"}),
        ([1, True, None, ("a",)], [1, True, None, ["a"]]),
    ],
)
def test_codes_are_kept_and_what_may_name_a_person_is_not(given: object, left: object) -> None:
    assert kept(given) == left
