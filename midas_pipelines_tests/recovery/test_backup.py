"""A backup is whole or none, opens with its key alone, and after a restore nothing is sold twice or made twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import sqlalchemy as sa
from pyrage import x25519

from midas_pipelines.errors import WrongInput
from midas_pipelines.lib.doctor.surroundings import place_lines
from midas_pipelines.recovery import dumps
from midas_pipelines.recovery.backup import SHOP, create_backup, verify_backup
from midas_pipelines.recovery.incident import lock_system, unlock_system
from midas_pipelines.recovery.places import backup_place, backups, find_backup
from midas_pipelines.recovery.restore import (
    SCRATCH,
    broken_invariants,
    restore_shop,
    run_drill,
)
from midas_pipelines.recovery.sealing import Damaged
from midas_pipelines.settings import SettingsError
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.claims import why_stopped
from midas_pipelines.store.operations.backlog import overview
from midas_pipelines.store.privacy.keys import new_key
from midas_pipelines_tests.conftest import empty
from midas_pipelines_tests.copies import Copies, fresh_database
from midas_pipelines_tests.postgres import INSTALLED
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.world import World


@pytest.fixture
def lost(copies: Copies) -> Iterator[Database]:
    """An empty database, in place of one that was lost."""
    with fresh_database(copies, empty) as database:
        yield database


def restore(safe: World, target: Database, *, unsigned: bool = False, **options: bool) -> None:
    restore_shop(find_backup(safe.settings, None, unsigned=unsigned), target.engine.url, **options)


def content(database: Database, *tables: str) -> list[object]:
    return [sorted(map(str, rows(database, f"SELECT * FROM {table}"))) for table in tables]


KEPT = (
    "products",
    "orders",
    "order_items",
    "inventory_changes",
    "marketplace_orders",
    "order_processing_logs",
)


@pytest.mark.both_databases
@pytest.mark.parametrize("program", ["pginstall/bin/pg_dump", "pginstall18/bin/pg_dump", None])
def test_a_backup_brings_back_every_row(
    safe: World, lost: Database, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    found = INSTALLED.parent / program if program is not None else None
    if found is not None and not (safe.database.is_postgresql and found.exists()):
        pytest.skip("SQLite's file is copied, or there is no such pg_dump")
    monkeypatch.setattr(dumps.shutil, "which", lambda _: found and str(found))
    made = create_backup(safe.settings, safe.database, "ann")
    script: list[bytes] = []
    find_backup(safe.settings, None).open(SHOP[safe.database.engine.url.get_backend_name()], script.append)
    assert (b"Dumped by pg_dump" in b"".join(script)) == (found is not None)
    assert verify_backup(safe.settings, None)[0] == made.name
    before = content(safe.database, *KEPT)
    restore(safe, lost)
    assert content(lost, *KEPT) == before
    add_product(lost, sku="C")  # sequences and triggers work on
    assert value(lost, "SELECT count(*) FROM fourseller_product_mappings") == 3
    assert set(broken_invariants(lost).values()) == {0}
    with pytest.raises(WrongInput):
        restore(safe, lost)
    restore(safe, lost, replace=True)
    assert content(lost, *KEPT) == before


@pytest.mark.only_on("postgresql")  # SQLite's file is copied
def test_tables_in_a_schema_of_their_own_are_read_by_copy(
    safe: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumps.shutil, "which", lambda _: str(INSTALLED / "bin" / "pg_dump"))
    with safe.database.writing() as connection:
        for statement in (
            "CREATE SCHEMA shop",
            "SET LOCAL search_path = shop",
            "CREATE TABLE note (text text)",
        ):
            connection.exec_driver_sql(statement)
        assert b'COPY "note" FROM stdin' in b"".join(dumps.dump(connection, ["note"]))


@pytest.mark.both_databases
def test_after_the_loss_of_machine_and_payload_key_every_order_is_there_once_and_nothing_is_sold_twice(
    safe: World, lost: Database
) -> None:
    session = "('x', 'signed_in', '2099-01-01 00:00:00+00:00')"
    run(safe.database, f"INSERT INTO midas_console_sessions (token_hash, kind, valid_until) VALUES {session}")
    create_backup(safe.settings, safe.database, "ann")
    safe.place(("A", 3), id="since-1")
    safe.place(("B", 9), id="since-2")
    safe.import_orders()
    add_product(safe.database, sku="NEW", stock_quantity=4)
    safe.full()
    safe.changes["payload_key"] = new_key()
    restore(safe, lost, unsigned=True)
    safe.database = lost
    found = {line.check: line for line in place_lines(safe.settings, lost)}["encryption key"]
    assert (found.state, "sealed with a key that is missing" in found.found) == ("wrong", True)
    assert value(lost, "SELECT count(*) FROM midas_console_sessions") == 0
    assert str(overview(lost).pushes_stopped).startswith("restored")
    with lost.writing() as connection:  # a lock meanwhile ends nothing but itself
        lock_system(connection, because="the machine was lost", by="ann")
        assert unlock_system(connection)
        assert str(why_stopped(connection)).startswith("restored")
    safe.place(("B", 1), id="meanwhile")
    shown = {p["sku"]: p["inventory"]["quantity"] for p in safe.sandbox.state.products.values()}
    safe.full()
    safe.inventory()
    assert {p["sku"]: p["inventory"]["quantity"] for p in safe.sandbox.state.products.values()} == shown
    safe.import_orders()
    add_product(lost, sku="NEW", stock_quantity=4)  # the shop enters it again
    safe.full()
    orders = rows(lost, "SELECT marketplace_order_id, local_order_id FROM marketplace_orders ORDER BY 1")
    assert [row[0] for row in orders] == ["before", "meanwhile", "since-1", "since-2"]
    assert value(lost, "SELECT count(*) FROM orders") == 4
    assert set(broken_invariants(lost).values()) == {0}
    assert overview(lost).pushes_stopped is None
    assert value(lost, "SELECT count(*) FROM alerts WHERE kind = 'incident' AND cleared_at IS NULL") == 0
    stock = {row.sku: row.stock_quantity for row in rows(lost, "SELECT sku, stock_quantity FROM products")}
    assert stock == {"A": 5, "B": 0, "NEW": 4}
    listed = sorted((p["sku"], p["inventory"]["quantity"]) for p in safe.sandbox.state.products.values())
    assert listed == sorted(stock.items())


def test_a_damaged_backup_is_found_a_half_one_is_none_and_no_person_is_named_in_clear(
    safe: World, lost: Database
) -> None:
    run(safe.database, "UPDATE orders SET notes = 'Zyxwvu'")
    made = create_backup(safe.settings, safe.database, "ann")
    place = Path(str(safe.settings.backup_to))
    assert not any(b"Zyxwvu" in file.read_bytes() for file in place.rglob("*") if file.is_file())
    assert (place.stat().st_mode & 0o777) == 0o700
    found = find_backup(safe.settings, made.name)
    folder, manifest = found.folder, found.manifest
    part = folder / manifest.parts[0].name
    whole = part.read_bytes()
    part.write_bytes(whole[:-20])
    with pytest.raises(Damaged):
        verify_backup(safe.settings, None)
    with pytest.raises(Damaged):
        restore(safe, lost)
    assert sa.inspect(lost.engine).get_table_names() == []
    part.write_bytes(whole)
    other = Path(str(safe.settings.backup_identity_file)).with_name("other")
    other.write_text(str(x25519.Identity.generate()))
    safe.changes["backup_identity_file"] = other
    with pytest.raises(Damaged, match="cannot be opened"):
        verify_backup(safe.settings, None)
    (folder / "manifest.json").unlink()
    assert backups(backup_place(safe.settings)) == []


PLANTED: tuple[dict[str, object], ...] = (
    {},
    {"made_at": "x"},
    {"made_at": 5},
    {"facts": None},
    {"signature": 7},
)
"""Changes of a whole manifest under a newer name; the first is none."""


def test_planted_manifests_hide_no_backup_and_a_changed_one_is_refused(safe: World, lost: Database) -> None:
    made = create_backup(safe.settings, safe.database, "ann")
    found = find_backup(safe.settings, None)
    folder, manifest = found.folder, found.manifest
    for year, change in enumerate(PLANTED, 2090):
        planted = folder.parent / f"midas-{year}0101T000000.000000Z"
        planted.mkdir()
        (planted / "manifest.json").write_text(json.dumps(asdict(manifest) | change))
    assert verify_backup(safe.settings, None)[0] == made.name
    for change in ({"revision": "other"}, {"parts": []}, {"signature": manifest.signature[:-1] + "x"}):
        (folder / "manifest.json").write_text(json.dumps(asdict(manifest) | change))
        with pytest.raises(Damaged, match="was changed"):
            restore(safe, lost, unsigned=True)
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest)))
    safe.changes["payload_key"] = new_key()
    with pytest.raises(SettingsError, match="--unsigned"):
        restore(safe, lost)
    assert sa.inspect(lost.engine).get_table_names() == []
    create_backup(safe.settings, safe.database, "ann")


@pytest.mark.both_databases
def test_a_drill_restores_checks_and_leaves_nothing(safe: World) -> None:
    create_backup(safe.settings, safe.database, "ann")
    drill = run_drill(safe.settings, safe.database, "ann")
    assert (drill.passed, drill.checked) == (True, 7)
    assert drill.rpo_seconds >= 0
    with safe.database.writing() as connection:
        connection.execute(sa.text("UPDATE orders SET total_amount = total_amount + 1"))
    create_backup(safe.settings, safe.database, "ann")
    drill = run_drill(safe.settings, safe.database, "ann")
    assert drill.broken == {"order_totals_add_up": 1}
    proofs = rows(safe.database, "SELECT passed FROM midas_proofs WHERE name = 'backup_drill' ORDER BY id")
    assert [bool(row.passed) for row in proofs] == [True, False]
    if safe.database.is_postgresql:
        assert rows(safe.database, f"SELECT 1 FROM pg_database WHERE starts_with(datname, '{SCRATCH}')") == []
