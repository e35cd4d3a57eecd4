"""What marketplaces and the law ask of a shop, each figure against the running settings and the newest proofs.

The figures are those of `docs/security.md`; some could be read at their source, some only second hand. This is a check
against that table, never a certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from midas_pipelines.recovery.figures import FIGURES
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import AuditState, verify_audit
from midas_pipelines.store.gateway.keys import MOST_FAILURES, list_keys
from midas_pipelines.store.operations.cursors import last_proofs
from midas_pipelines.sync.privacy.due import overdue_buyers
from midas_pipelines.sync.privacy.requests import late_requests

LOCAL = (None, "", "localhost", "127.0.0.1", "::1")
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
OUTSIDE = {
    "disks_encrypted": "Encrypt the volume of the database.",
    "passwords": "The identity provider before Dagster and the console decides.",
    "session_lock": "The identity provider decides.",
    "backup_elsewhere": "Choose a bucket in another region.",
    "firewall": "Put one before the proxy.",
    "books": "Orders are the shop's books; tax law decides.",
    "account_deletion": "4Seller gets them; forward them as privacy requests.",
}
"""Figures that are not ours to see, and why."""


class ComplianceVerdict(StrEnum):
    """Result of one row."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    NOT_OURS = "NOT OURS"


@dataclass(frozen=True)
class ComplianceRow:
    """One figure: what is asked, by whom, and the verdict here, with the reason."""

    name: str
    asked: str
    by: str
    verdict: ComplianceVerdict
    reason: str


@dataclass(frozen=True)
class Facts:
    """What the rows are judged by; `keys` are the valid ones, `overdue` and `late` count buyers and requests."""

    settings: Settings
    now: datetime
    proofs: Mapping[str, Any]
    keys: list[dict[str, Any]]
    audit: AuditState
    overdue: int
    late: int


Judged = tuple[bool, str]


def compliance_rows(settings: Settings, database: Database) -> list[ComplianceRow]:
    """Every row, judged by the settings, proofs, keys, the whole audit log, overdue erasures and late requests."""
    now, overdue = database.now(), len(overdue_buyers(database, settings))
    with database.reading() as connection:
        proofs, keys, audit = last_proofs(connection), list_keys(connection), verify_audit(connection)
    valid = [key for key in keys if key["state"] == "valid"]
    facts = Facts(settings, now, proofs, valid, audit, overdue, len(late_requests(database)))
    rows = []
    for name, asked in FIGURES.items():
        if name in OUTSIDE:
            rows.append(ComplianceRow(name, *asked, ComplianceVerdict.NOT_OURS, OUTSIDE[name]))
            continue
        passed, reason = _proven(facts, *PROOFS[name]) if name in PROOFS else JUDGES[name](facts)
        verdict = ComplianceVerdict.PASS if passed else ComplianceVerdict.FAIL
        rows.append(ComplianceRow(name, *asked, verdict, reason))
    return rows


def compliance_page(rows: list[ComplianceRow]) -> str:
    """The report in Markdown."""
    lines = ["# Compliance", "", "Checked against the figures in docs/security.md; not a certificate.", ""]
    lines += ["| | what is asked | by | here |", "|---|---|---|---|"]
    lines += [f"| {row.verdict} | {row.asked} | {row.by} | {row.reason} |" for row in rows]
    return "\n".join(lines) + "\n"


def _proven(facts: Facts, name: str, days: float, how: str) -> Judged:
    """Whether the newest proof of that name passed and is at most so many days old."""
    if (found := facts.proofs.get(name)) is None:
        return False, f"There is no record yet: {how}."
    at = f"{found.at:%Y-%m-%d}"
    if not found.passed:
        return False, f"The last one, on {at}, failed: {how}."
    if facts.now - found.at > timedelta(days=days):
        return False, f"The last one was on {at}: {how}."
    return True, f"Done on {at} by {found.by}."


def _retention(facts: Facts) -> Judged:
    days = facts.settings.erase_after(None)
    if days is None or days > 30:
        return False, f"MIDAS_ERASE_BUYERS_AFTER_DAYS is {days or 'never'}: set 30 or fewer."
    if facts.overdue:
        return False, f"{facts.overdue} buyers are overdue: `midas privacy erase-due`."
    return True, f"Buyers are erased {days} days after delivery; none is overdue."


def _database_tls(facts: Facts) -> Judged:
    for url in (facts.settings.database(), facts.settings.dagster_database()):
        if url is None or url.get_backend_name() == "sqlite":
            continue
        here = url.host in LOCAL and "host" not in url.query
        if not here and url.query.get("sslmode") != "verify-full":
            return False, f"The database on {url.host} is not asked for sslmode=verify-full."
    return True, "Databases are on this machine or reached with sslmode=verify-full."


def _keys_age(facts: Facts) -> Judged:
    old = [key["key_id"] for key in facts.keys if (facts.now - key["created_at"]).days > 365]
    if old:
        return False, f"Older than a year: {', '.join(old)}: `midas keys rotate`."
    return True, f"{len(facts.keys)} valid keys, none older than a year."


def _audit_whole(facts: Facts) -> Judged:
    if facts.audit.problems:
        return False, f"{facts.audit.problems[0]} See `midas audit verify`."
    days = facts.settings.keep_audit_days
    return True, f"The chain of {facts.audit.rows} rows is whole; rows are kept for {days} days."


def _backup_age(facts: Facts) -> Judged:
    days, promise = facts.settings.longest_backup_days(), facts.settings.erase_after(None)
    if promise is None or days <= promise:
        return True, f"Backups are removed after {days} days."
    return False, f"Backups are kept for {days} days, buyers for {promise}."


def _purpose(facts: Facts) -> Judged:
    if any("amazon" in name.lower() for name in facts.settings.mail_channels_on):
        return False, "MIDAS_MAIL_CHANNELS_ON names amazon: its buyers may not be written to."
    return True, "Mail is about an order alone, and none goes to buyers of Amazon."


def _alerts(facts: Facts) -> Judged:
    if facts.settings.notify_urls is None:
        return False, "MIDAS_NOTIFY_URLS is not set: alerts reach no person."
    return True, "Alerts go to staff."


def _contact(facts: Facts) -> Judged:
    contact = facts.settings.incident_contact
    return bool(contact), f"It is {contact}." if contact else "MIDAS_INCIDENT_CONTACT is not set."


JUDGES: dict[str, Callable[[Facts], Judged]] = {
    "pii_retention": _retention,
    "requests_in_time": lambda facts: (not facts.late, f"{facts.late or 'No'} requests are late."),
    "purpose": _purpose,
    "payloads_encrypted": lambda _: (True, "What marketplaces sent is sealed with AES-256-GCM."),
    "database_tls": _database_tls,
    "lockout": lambda _: (MOST_FAILURES <= 10, f"The gateway locks out after {MOST_FAILURES} wrong keys."),
    "key_rotation": _keys_age,
    "audit_log": _audit_whole,
    "alerts": _alerts,
    "incident_contact": _contact,
    "backup_retention": _backup_age,
}
"""How each of the other figures is judged: whether it passes, and why."""
