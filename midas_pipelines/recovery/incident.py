"""Incidents: everything is locked but the import of orders, and evidence is packed before it ages away."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.recovery.sealing import recipients, seal
from midas_pipelines.settings import Settings, setting_rows
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import verify_audit
from midas_pipelines.store.gateway.keys import list_keys, revoke_all_keys
from midas_pipelines.store.items.claims import allow_pushes, stop_pushes
from midas_pipelines.store.schema.gateway_tables import gateway_audit
from midas_pipelines.store.schema.operation_tables import alerts, proofs
from midas_pipelines.store.schema.tables import api_errors, sync_logs

KIND = "incident"
MOMENTS = (
    gateway_audit.c.at,
    api_errors.c.created_at,
    sync_logs.c.started_at,
    alerts.c.created_at,
    proofs.c.at,
)
"""The columns that date the rows of the tables of the evidence."""


def lock_system(connection: sa.Connection, *, because: str, by: str) -> int:
    """Revokes every key and stops all pushes; orders are imported as ever. Returns how many keys were revoked."""
    revoked = revoke_all_keys(connection)
    stop_pushes(connection, f"incident: {because}")
    text = f"{by} locked the system: {revoked} keys are revoked and nothing is pushed. `midas incident unlock` ends it."
    raise_alert(connection, kind=KIND, subject="lock", text=text)
    return revoked


def unlock_system(connection: sa.Connection) -> bool:
    """Allows pushes again; keys stay revoked. True when pushes were stopped."""
    clear_alert(connection, kind=KIND, subject="lock")
    return allow_pushes(connection)


def collect(settings: Settings, database: Database, since: datetime, file: Path) -> dict[str, int]:
    """Writes the evidence since that moment, compressed and encrypted as backups are; returns rows by name.

    Each document's entry in `chain.json` carries the hash of the one before. Raises SettingsError without recipients,
    FileExistsError where the file is there already.
    """
    keys, documents = recipients(settings), _documents(settings, database, since)
    chain: list[dict[str, str]] = []
    before, spool = "", io.BytesIO()
    with tarfile.open(fileobj=spool, mode="w") as tar:
        for name, rows in {**documents, "chain": chain}.items():
            body = json.dumps(rows, indent=1, default=str).encode()
            before = hashlib.sha256(before.encode() + body).hexdigest()
            info = tarfile.TarInfo(f"{name}.json")
            info.size, info.mode = len(body), 0o600
            tar.addfile(info, io.BytesIO(body))
            chain.append({"name": info.name, "sha256": hashlib.sha256(body).hexdigest(), "chain": before})
    with file.open("xb") as target:
        file.chmod(0o600)
        seal([spool.getvalue()], target, keys)
    return {f"{name}.json": len(rows) for name, rows in documents.items()}


def _documents(settings: Settings, database: Database, since: datetime) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    with database.reading() as connection:
        for moment in MOMENTS:
            query = sa.select(moment.table).where(moment >= since).order_by(moment.table.c.id)
            found[moment.table.name] = [dict(row) for row in connection.execute(query).mappings()]
        found["keys"] = list_keys(connection)
        state = verify_audit(connection)
    return found | {
        "audit": [asdict(state)],
        "settings": [{row["name"]: row["now"] for row in setting_rows(settings)}],
        "versions": sorted(f"{one.name} {one.version}" for one in distributions()),
        "collected": [{"at": datetime.now(UTC), "since": since}],
    }
