"""An incident locks all but the import of orders, its evidence is packed, and compliance says what is missing."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from midas_pipelines.definitions import load
from midas_pipelines.recovery import incident
from midas_pipelines.recovery.compliance import (
    PROOFS,
    RECORDED,
    ComplianceResult,
    compliance_page,
    compliance_rows,
)
from midas_pipelines.recovery.figures import FIGURES
from midas_pipelines.recovery.sealing import identities, unseal
from midas_pipelines.settings import load_settings
from midas_pipelines.store.gateway.audit import AuditEntry, note_audit
from midas_pipelines.store.gateway.keys import Role, any_valid_key, create_key
from midas_pipelines.store.operations.cursors import record_proof
from midas_pipelines_tests.shop import rows, value
from midas_pipelines_tests.sync.world import World


@pytest.mark.both_databases
def test_while_locked_nothing_is_pushed_and_orders_are_imported(safe: World) -> None:
    with safe.database.writing() as connection:
        create_key(connection, name="shop", role=Role.ADMIN)
        assert incident.lock_system(connection, because="a key leaked", by="ann") == 1
        assert not any_valid_key(connection)
    safe.set(1, stock_quantity=3, price="99.00")
    safe.place(("B", 1), id="new")
    safe.full()
    safe.inventory()
    safe.incremental()
    safe.import_orders()
    assert value(safe.database, "SELECT count(*) FROM orders") == 2
    shown = {p["sku"]: p["inventory"]["quantity"] for p in safe.sandbox.state.products.values()}
    assert shown == {"A": 8, "B": 9}  # the marketplace's own count: nothing of ours came
    with safe.database.writing() as connection:
        assert incident.unlock_system(connection)
        assert not incident.unlock_system(connection)
    safe.full()
    shown = {p["sku"]: p["inventory"]["quantity"] for p in safe.sandbox.state.products.values()}
    assert shown == {"A": 3, "B": 9}
    assert (
        value(safe.database, "SELECT count(*) FROM alerts WHERE kind = 'incident' AND cleared_at IS NULL")
        == 0
    )


def test_evidence_is_packed_encrypted_and_chained_without_secrets(safe: World, tmp_path: Path) -> None:
    safe.changes["payload_key"] = SecretStr("A" * 43 + "=")
    with safe.database.writing() as connection:
        note_audit(connection, AuditEntry("none", "GET /x", remote="10.9.8.7"), "refused", 401)
    file = tmp_path / "pack"
    since = datetime.now(UTC) - timedelta(hours=1)
    assert incident.collect(safe.settings, safe.database, since, file)["gateway_audit.json"] == 1
    assert (b"10.9.8.7" in file.read_bytes(), file.stat().st_mode & 0o777) == (False, 0o600)
    plain = io.BytesIO()
    with file.open("rb") as sealed:
        unseal(sealed, plain.write, identities(safe.settings.backup_identity_file), "pack")
    plain.seek(0)
    with tarfile.open(fileobj=plain) as tar:
        found = {name: json.load(tar.extractfile(name)) for name in tar.getnames()}  # type: ignore[arg-type]
    assert found["gateway_audit.json"][0]["remote"] == "10.9.8.7"
    assert "A" * 43 not in str(found)
    assert len({entry["chain"] for entry in found["chain.json"]}) == len(found) - 1
    later = datetime.now(UTC) + timedelta(hours=1)
    assert (
        incident.collect(safe.settings, safe.database, later, tmp_path / "other")["gateway_audit.json"] == 0
    )


def test_each_figure_is_judged_and_proofs_make_it_pass(safe: World) -> None:
    assert PROOFS.keys() < FIGURES.keys()
    found = compliance_rows(safe.settings, safe.database)
    before = {row.name: row.result for row in found}
    assert [row.name for row in found if not row.reason] == []
    proven = (*RECORDED, "access_review", "backup", "backup_drill")
    assert {before[name] for name in proven} == {ComplianceResult.FAIL}
    assert before["pii_retention"] is before["audit_log"] is before["lockout"] is ComplianceResult.PASS
    assert before["firewall"] is ComplianceResult.NOT_OURS
    with safe.database.writing() as connection:
        for name in (*RECORDED, "key_review", "backup", "backup_drill"):
            record_proof(connection, name, passed=True, by="ann")
    after = compliance_rows(safe.settings, safe.database)
    assert {row.result for row in after if row.name in proven} == {ComplianceResult.PASS}
    safe.changes["erase_buyers_after_days"] = "60"
    (late,) = [r for r in compliance_rows(safe.settings, safe.database) if r.name == "pii_retention"]
    assert (late.result, "60" in late.reason) == (ComplianceResult.FAIL, True)
    assert compliance_page(after).count("\n") == len(FIGURES) + 6


def test_dagster_backs_up_drills_and_reports(safe: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("database_url", "fourseller_api_url", "fourseller_api_key", "fourseller_seller_id"):
        variable = name.upper() if name.startswith("fourseller") else f"MIDAS_{name.upper()}"
        found = getattr(safe.settings, name)
        monkeypatch.setenv(variable, found.get_secret_value() if isinstance(found, SecretStr) else str(found))
    for name in ("backup_to", "backup_recipients", "backup_identity_file"):
        monkeypatch.setenv(f"MIDAS_{name.upper()}", str(safe.changes[name]))
    defs = load(load_settings())
    with dg.DagsterInstance.ephemeral() as instance:
        for job in ("backup", "restore_drill", "compliance_report"):
            done = defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=True)
        checks = {one.check_name: one.passed for one in done.get_asset_check_evaluations()}
    assert checks.keys() == FIGURES.keys()
    assert checks["backup_drill"]
    assert checks["backup"]
    assert not checks["scan"]
    assert [row.by for row in rows(safe.database, "SELECT by FROM midas_proofs")] == ["Dagster", "Dagster"]
