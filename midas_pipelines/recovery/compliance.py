"""What marketplaces and the law ask of a shop, each figure against the running settings and the newest proofs.

The figures are those of `docs/security.md`; some could be read at their source, some only second hand. This is a check
against that table, never a certificate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from midas_pipelines.recovery.figures import FIGURES
from midas_pipelines.setting_checks import is_unverified
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import AuditState, verify_audit
from midas_pipelines.store.gateway.keys import MOST_FAILURES, list_keys
from midas_pipelines.store.operations.cursors import last_proofs
from midas_pipelines.sync.privacy.due import overdue_buyers
from midas_pipelines.sync.privacy.requests import late_requests

RECORDED = {"log_review": 14, "incident_plan": 183, "scan": 30, "penetration_test": 365}
"""Proofs that a person records with `midas compliance record`, and the days that they hold."""
PROOFS = {
    "access_review": ("key_review", 90, "`midas keys review`"),
    "backup": ("backup", 1.1, "`midas backup create`"),
    "backup_drill": ("backup_drill", 31, "`midas backup drill`"),
    **{
        name: (name, days, f"do it, then `midas compliance record {name}`") for name, days in RECORDED.items()
    },
}
"""Figures that a proof shows: its name, the days that it holds, and how to make one."""


class ComplianceResult(StrEnum):
    """Result of one row."""

    PASS = "PASS"  # noqa: S105 - a result
    FAIL = "FAIL"
    NOT_OURS = "NOT OURS"


@dataclass(frozen=True)
class ComplianceRow:
    """One figure: what is asked, by whom, and the result here, with the reason."""

    name: str
    asked: str
    by: str
    result: ComplianceResult
    reason: str


Judged = tuple[bool, str]
"""Whether a figure passes, and why."""


def compliance_rows(settings: Settings, database: Database) -> list[ComplianceRow]:
    """Every row, judged by the settings, proofs, keys, the whole audit log, overdue erasures and late requests."""
    now = database.now()
    with database.reading() as connection:
        proofs, keys, audit = last_proofs(connection), list_keys(connection), verify_audit(connection)
    valid = [key for key in keys if key["state"] == "valid"]
    overdue, late = len(overdue_buyers(database, settings)), len(late_requests(database))
    judged = _judged(settings, now, valid, audit, overdue, late)
    judged |= {
        name: _proven(proofs.get(proof), now, days, how) for name, (proof, days, how) in PROOFS.items()
    }
    rows = []
    for name, (asked, by, *outside) in FIGURES.items():
        result, reason = ComplianceResult.NOT_OURS, "".join(outside)
        if name in judged:
            passed, reason = judged[name]
            result = ComplianceResult.PASS if passed else ComplianceResult.FAIL
        rows.append(ComplianceRow(name, asked, by, result, reason))
    return rows


def compliance_page(rows: list[ComplianceRow]) -> str:
    """The report in Markdown."""
    lines = ["# Compliance", "", "Checked against the figures in docs/security.md; not a certificate.", ""]
    lines += ["| | what is asked | by | here |", "|---|---|---|---|"]
    lines += [f"| {row.result} | {row.asked} | {row.by} | {row.reason} |" for row in rows]
    return "\n".join(lines) + "\n"


def _proven(found: Any, now: datetime, days: float, how: str) -> Judged:
    """Whether the newest proof passed and is at most so many days old."""
    if found is None:
        return False, f"There is no record yet: {how}."
    if not found.passed:
        return False, f"The last one, on {found.at:%Y-%m-%d}, failed: {how}."
    if now - found.at > timedelta(days=days):
        return False, f"The last one was on {found.at:%Y-%m-%d}: {how}."
    return True, f"Done on {found.at:%Y-%m-%d} by {found.by}."


def _judged(
    settings: Settings, now: datetime, keys: list[dict[str, Any]], audit: AuditState, overdue: int, late: int
) -> dict[str, Judged]:
    """The other figures; `keys` are the valid ones, `overdue` and `late` count buyers and requests."""
    days, backup_days = settings.erase_after(None), settings.longest_backup_days()
    old = ", ".join(key["key_id"] for key in keys if (now - key["created_at"]).days > 365)
    retention = True, f"Buyers are erased {days} days after delivery; none is overdue."
    if overdue:
        retention = False, f"{overdue} buyers are overdue: `midas privacy erase-due`."
    if days is None or days > 30:
        retention = False, f"MIDAS_ERASE_BUYERS_AFTER_DAYS is {days or 'never'}: set 30 or fewer."
    tls = True, "Databases are on this machine or reached with sslmode=verify-full."
    for secret in (settings.database_url, settings.dagster_postgres_url):
        url = secret.get_secret_value() if secret is not None else ""
        if url.startswith("postgres") and is_unverified(url):
            tls = False, f"The database on {urlsplit(url).hostname} is not asked for sslmode=verify-full."
    purpose = True, "Mail is about an order alone, and none goes to buyers of Amazon."
    if any("amazon" in name.lower() for name in settings.mail_channels_on):
        purpose = False, "MIDAS_MAIL_CHANNELS_ON names amazon: its buyers may not be written to."
    kept = True, f"Backups are removed after {backup_days} days."
    if days is not None and backup_days > days:
        kept = False, f"Backups are kept for {backup_days} days, buyers for {days}."
    whole = f"The chain of {audit.rows} rows is whole; rows are kept for {settings.keep_audit_days} days."
    broken = [f"{problem} See `midas audit verify`." for problem in audit.problems]
    contact, staff = settings.incident_contact, settings.notify_urls is not None
    return {
        "pii_retention": retention,
        "requests_in_time": (not late, f"{late or 'No'} requests are late."),
        "purpose": purpose,
        "payloads_encrypted": (True, "What marketplaces sent is sealed with AES-256-GCM."),
        "database_tls": tls,
        "lockout": (MOST_FAILURES <= 10, f"The gateway locks out after {MOST_FAILURES} wrong keys."),
        "key_rotation": (
            not old,
            f"Older than a year: {old}: `midas keys rotate`."
            if old
            else f"{len(keys)} valid keys, none older than a year.",
        ),
        "audit_log": (not broken, [*broken, whole][0]),
        "alerts": (
            staff,
            "Alerts go to staff." if staff else "MIDAS_NOTIFY_URLS is not set: alerts reach no person.",
        ),
        "incident_contact": (
            bool(contact),
            f"It is {contact}." if contact else "MIDAS_INCIDENT_CONTACT is not set.",
        ),
        "backup_retention": kept,
    }
