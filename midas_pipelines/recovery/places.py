"""Where backups are: a folder or an S3 bucket. A backup is a folder with sealed parts, and a manifest that is written last."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from upath import UPath

from midas_pipelines.recovery.sealing import Damaged
from midas_pipelines.settings import Settings, SettingsError

MANIFEST = "manifest.json"
FORM = "midas-%Y%m%dT%H%M%S.%fZ"
ABANDONED = timedelta(days=1)
"""A backup without a manifest was cut short; so long after its beginning it is removed."""


@dataclass(frozen=True)
class BackupPart:
    """One sealed file: its plain content's size and hash."""

    name: str
    size: int
    sha256: str


@dataclass
class Manifest:
    """What a backup holds. It names tables and numbers, no person.

    Args:
        made_at: the moment of the shop's snapshot, ISO, UTC.
        kind: postgresql or sqlite.
        revision: the version of our tables.
        shop, history: the statements around the rows of each table, for the shop and for Dagster, on PostgreSQL.
        facts: counts for a person: rows, seconds, hash of the audit log.
    """

    made_at: str
    kind: str
    revision: str | None
    parts: list[BackupPart] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    shop: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def moment(self) -> datetime:
        """When the snapshot was taken."""
        return datetime.fromisoformat(self.made_at)


def backup_place(settings: Settings) -> UPath:
    """The folder or bucket of MIDAS_BACKUP_TO. Raises SettingsError."""
    if not settings.backup_to:
        raise SettingsError(
            "MIDAS_BACKUP_TO is not set: name a folder, or a bucket such as s3://backups/midas."
        )
    options: dict[str, Any] = {}
    if settings.backup_to.startswith("s3://") and settings.backup_s3_url:
        options["endpoint_url"] = settings.backup_s3_url
    place: UPath = UPath(settings.backup_to, **options)
    if place.protocol in ("", "file", "local"):
        os.makedirs(str(place), mode=0o700, exist_ok=True)
    return place


def new_backup(place: UPath, moment: datetime) -> UPath:
    """The folder of a backup of that moment."""
    folder = place / moment.strftime(FORM)
    if place.protocol in ("", "file", "local"):
        os.makedirs(str(folder), mode=0o700)
    return folder


def write_manifest(folder: UPath, manifest: Manifest) -> None:
    """Makes the backup count: until now it was none."""
    text = json.dumps(asdict(manifest), indent=1)
    temporary = folder / f"{MANIFEST}.tmp"
    if folder.protocol in ("", "file", "local"):
        temporary.write_text(text)
        os.replace(str(temporary), str(folder / MANIFEST))
    else:  # an object appears whole or not at all
        (folder / MANIFEST).write_text(text)


def read_manifest(folder: UPath) -> Manifest:
    """What a backup holds. Raises Damaged."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
        return Manifest(**found | {"parts": [BackupPart(**part) for part in found["parts"]]})
    except (OSError, ValueError, TypeError, KeyError):
        raise Damaged(f"The backup {folder.name} has no manifest that can be read.") from None


def backups(place: UPath) -> list[tuple[UPath, Manifest]]:
    """Every whole backup, the newest first."""
    found = []
    for folder in _folders(place):
        with suppress(Damaged):
            found.append((folder, read_manifest(folder)))
    return sorted(found, key=lambda one: one[1].made_at, reverse=True)


def find_backup(place: UPath, name: str | None) -> tuple[UPath, Manifest]:
    """The backup of that name, or the newest. Raises Damaged."""
    for folder, manifest in backups(place):
        if name in (None, folder.name):
            return folder, manifest
    raise Damaged(f"There is no backup {name or ''}".rstrip() + f" in {place}: see `midas backup list`.")


def kept(moments: list[datetime], now: datetime, days: int) -> set[datetime]:
    """Which backups stay: all of a day, one a day of a week, one a week after it, and none older than `days`. Pure."""
    stay: dict[object, datetime] = {}
    for moment in sorted(moments):
        age = now - moment
        week = moment.isocalendar()[:2]
        bucket = moment if age < timedelta(days=1) else moment.date() if age < timedelta(days=7) else week
        if age < timedelta(days=days):
            stay.setdefault(bucket, moment)
    return set(stay.values())


def thin_out(place: UPath, days: int) -> int:
    """Removes the backups that `kept` does not name, and those that were cut short; returns how many."""
    now = datetime.now(UTC)
    whole = {folder.name: manifest.moment for folder, manifest in backups(place)}
    stay = kept(list(whole.values()), now, days)
    doomed = []
    for folder in _folders(place):
        moment = whole.get(folder.name)
        if moment not in stay if moment is not None else now - _begun(folder) > ABANDONED:
            doomed.append(folder)
    for folder in doomed:
        (folder / MANIFEST).unlink(missing_ok=True)  # first: half a backup counts as none
        for part in list(folder.iterdir()):
            part.unlink(missing_ok=True)
        with suppress(OSError, NotImplementedError):
            folder.rmdir()
    return len(doomed)


def _begun(folder: UPath) -> datetime:
    """The moment in a backup's name. Raises ValueError where there is none."""
    return datetime.strptime(folder.name, FORM).replace(tzinfo=UTC)


def _folders(place: UPath) -> list[UPath]:
    found = []
    for folder in place.iterdir() if place.exists() else ():
        with suppress(ValueError):
            _begun(folder)
            found.append(folder)
    return found
