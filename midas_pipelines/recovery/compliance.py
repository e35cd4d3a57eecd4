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
from midas_pipelines.store.operations.proofs import last_proofs
from midas_pipelines.sync.privacy.due import overdue_buyers
from midas_pipelines.sync.privacy.requests import late_requests

LOCAL = (None, "", "localhost", "127.0.0.1", "::1")


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
    """What the rows are judged by."""

    settings: Settings
    now: datetime
    proofs: Mapping[str, Any]
    keys: list[dict[str, Any]]
    audit: AuditState
    overdue: int
    late: int


Judged = tuple[bool | None, str]
"""Whether it passes, None where it is not ours to see, and why."""
VERDICTS = {
    True: ComplianceVerdict.PASS,
    False: ComplianceVerdict.FAIL,
    None: ComplianceVerdict.NOT_OURS,
}


def read_facts(settings: Settings, database: Database) -> Facts:
    """Reads proofs, keys, the whole audit log, overdue erasures and late requests."""
    now = database.now()
    with database.reading() as connection:
        proofs, keys, audit = last_proofs(connection), list_keys(connection), verify_audit(connection)
    valid = [key for key in keys if key["state"] == "valid"]
    overdue = len(overdue_buyers(database, settings))
    return Facts(settings, now, proofs, valid, audit, overdue, len(late_requests(database)))


def compliance_rows(facts: Facts) -> list[ComplianceRow]:
    """Every row, judged. Pure."""
    judged = {name: JUDGES[name](facts) for name in FIGURES}
    return [
        ComplianceRow(name, *FIGURES[name], VERDICTS[passed], reason)
        for name, (passed, reason) in judged.items()
    ]


def compliance_page(rows: list[ComplianceRow]) -> str:
    """The report in Markdown."""
    lines = ["# Compliance", "", "Checked against the figures in docs/security.md; not a certificate.", ""]
    lines += ["| | what is asked | by | here |", "|---|---|---|---|"]
    lines += [f"| {row.verdict} | {row.asked} | {row.by} | {row.reason} |" for row in rows]
    return "\n".join(lines) + "\n"


def _holds(passed: bool, so: str, otherwise: str) -> Judged:
    return passed, so if passed else otherwise


def _proof(name: str, days: float, how: str) -> Callable[[Facts], Judged]:
    """Whether the newest proof of that name passed and is at most so many days old."""

    def judge(facts: Facts) -> Judged:
        found = facts.proofs.get(name)
        if found is None:
            return False, f"There is no record yet: {how}."
        at = f"{found.at:%Y-%m-%d}"
        if not found.passed:
            return False, f"The last one, on {at}, failed: {how}."
        fresh = facts.now - found.at <= timedelta(days=days)
        return _holds(fresh, f"Done on {at} by {found.by}.", f"The last one was on {at}: {how}.")

    return judge


def _recorded(name: str, days: int) -> Callable[[Facts], Judged]:
    return _proof(name, days, f"do it, then `midas compliance record {name}`")


def _outside(reason: str) -> Callable[[Facts], Judged]:
    return lambda _: (None, reason)


def _retention(facts: Facts) -> Judged:
    days = facts.settings.erase_after(None)
    if days is None or days > 30:
        return False, f"MIDAS_ERASE_BUYERS_AFTER_DAYS is {days or 'never'}: set 30 or fewer."
    overdue = f"{facts.overdue} buyers are overdue: `midas privacy erase-due`."
    return _holds(
        not facts.overdue, f"Buyers are erased {days} days after delivery; none is overdue.", overdue
    )


def _database_tls(facts: Facts) -> Judged:
    for url in (facts.settings.database(), facts.settings.dagster_database()):
        here = (
            url is None
            or url.get_backend_name() == "sqlite"
            or (url.host in LOCAL and "host" not in url.query)
        )
        if url is not None and not here and url.query.get("sslmode") != "verify-full":
            return False, f"The database on {url.host} is not asked for sslmode=verify-full."
    return True, "Databases are on this machine or reached with sslmode=verify-full."


def _keys_age(facts: Facts) -> Judged:
    old = [key["key_id"] for key in facts.keys if (facts.now - key["created_at"]).days > 365]
    fine = f"{len(facts.keys)} valid keys, none older than a year."
    return _holds(not old, fine, f"Older than a year: {', '.join(old)}: `midas keys rotate`.")


def _audit_whole(facts: Facts) -> Judged:
    if facts.audit.problems:
        return False, f"{facts.audit.problems[0]} See `midas audit verify`."
    days = facts.settings.keep_audit_days
    return True, f"The chain of {facts.audit.rows} rows is whole; rows are kept for {days} days."


def _backup_age(facts: Facts) -> Judged:
    days, promise = facts.settings.longest_backup_days(), facts.settings.erase_after(None)
    kept = f"Backups are kept for {days} days, buyers for {promise}."
    return _holds(promise is None or days <= promise, f"Backups are removed after {days} days.", kept)


JUDGES: dict[str, Callable[[Facts], Judged]] = {
    "pii_retention": _retention,
    "requests_in_time": lambda facts: _holds(
        not facts.late, "No request is late.", f"{facts.late} requests are late."
    ),
    "purpose": lambda facts: _holds(
        not any("amazon" in name.lower() for name in facts.settings.mail_channels_on),
        "Mail is about an order alone, and none goes to buyers of Amazon.",
        "MIDAS_MAIL_CHANNELS_ON names amazon: its buyers may not be written to.",
    ),
    "payloads_encrypted": lambda _: (True, "What marketplaces sent is sealed with AES-256-GCM."),
    "disks_encrypted": _outside("Encrypt the volume of the database."),
    "database_tls": _database_tls,
    "passwords": _outside("The identity provider before Dagster and the console decides."),
    "session_lock": _outside("The identity provider decides."),
    "lockout": lambda _: (MOST_FAILURES <= 10, f"The gateway locks out after {MOST_FAILURES} wrong keys."),
    "access_review": _proof("key_review", 90, "`midas keys review`"),
    "key_rotation": _keys_age,
    "audit_log": _audit_whole,
    "log_review": _recorded("log_review", 14),
    "alerts": lambda facts: _holds(
        facts.settings.notify_urls is not None,
        "Alerts go to staff.",
        "MIDAS_NOTIFY_URLS is not set: alerts reach no person.",
    ),
    "incident_contact": lambda facts: _holds(
        bool(facts.settings.incident_contact),
        f"It is {facts.settings.incident_contact}.",
        "MIDAS_INCIDENT_CONTACT is not set.",
    ),
    "incident_plan": _recorded("incident_plan", 183),
    "scan": _recorded("scan", 30),
    "penetration_test": _recorded("penetration_test", 365),
    "backup": _proof("backup", 1.1, "`midas backup create`"),
    "backup_drill": _proof("backup_drill", 31, "`midas backup drill`"),
    "backup_retention": _backup_age,
    "backup_elsewhere": _outside("Choose a bucket in another region."),
    "firewall": _outside("Put one before the proxy."),
    "books": _outside("Orders are the shop's books; tax law decides."),
    "account_deletion": _outside("4Seller gets them; forward them as privacy requests."),
}
"""How each figure is judged, by its name."""

RECORDED = ("log_review", "incident_plan", "scan", "penetration_test")
"""Proofs that a person records with `midas compliance record`."""
