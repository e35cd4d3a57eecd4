"""Where backups are: a folder or an S3 bucket. A backup is a folder with sealed parts, and a manifest that is written last.

The manifest carries the hash of each part and is signed with the payload key, which is on no backup: who may only
write to the bucket cannot plant a backup whose statements a restore would run.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter
from upath import UPath

from midas_pipelines.recovery.sealing import Damaged, identities, unseal
from midas_pipelines.settings import Settings, SettingsError
from midas_pipelines.store.privacy.keys import MasterKey, key_is_there, key_ring
from midas_pipelines.sync.snapshots.files import is_local

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
    """What a backup holds. It names tables and numbers, no person."""

    made_at: str  # the moment of the shop's snapshot, ISO, UTC
    kind: str  # postgresql or sqlite
    revision: str | None  # of our tables
    parts: list[BackupPart] = field(default_factory=list)
    tables: dict[str, list[str]] = field(default_factory=dict)  # of each part that is a script
    facts: dict[str, Any] = field(default_factory=dict)  # for a person: rows, seconds, hash of the audit log
    signature: str = ""

    @property
    def moment(self) -> datetime:
        """When the snapshot was taken."""
        return datetime.fromisoformat(self.made_at)

    def signed_with(self, key: MasterKey) -> str:
        """The signature under that key: its id, and an HMAC of all the rest."""
        text = json.dumps(asdict(self) | {"signature": ""}, sort_keys=True)
        return f"{key.key_id}:{hmac.digest(key.signing, text.encode(), 'sha256').hex()}"


@dataclass(frozen=True)
class Backup:
    """A whole backup, and the keys that open it."""

    folder: UPath
    manifest: Manifest
    keys: list[Any]

    def open(self, name: str, take: Callable[[bytes], object]) -> None:
        """Hands the plain content of a part to `take`, chunk by chunk. Raises Damaged where it is missing, or not
        what was written."""
        part = next((part for part in self.manifest.parts if part.name == name), None)
        if part is None or not (self.folder / name).exists():
            raise Damaged(f"{self.folder.name} lacks the part {name}.")
        with (self.folder / name).open("rb") as file:
            found = unseal(file, take, self.keys, f"{self.folder.name}/{name}")
        if (found.size, found.hash.hexdigest()) != (part.size, part.sha256):
            raise Damaged(f"{self.folder.name}/{name} is not what was written.")


def backup_place(settings: Settings) -> UPath:
    """The folder or bucket of MIDAS_BACKUP_TO. Raises SettingsError where there is none, or it does not answer."""
    if not settings.backup_to:
        raise SettingsError("MIDAS_BACKUP_TO is not set: name a folder, or a bucket as s3://backups/midas.")
    s3 = settings.backup_to.startswith("s3://") and settings.backup_s3_url
    try:
        place: UPath = UPath(settings.backup_to, **({"endpoint_url": s3} if s3 else {}))
        if is_local(place):
            os.makedirs(str(place), mode=0o700, exist_ok=True)
        place.exists()
    except Exception as failed:  # each kind of bucket has errors of its own
        why = str(failed).partition("\n")[0] or type(failed).__name__
        raise SettingsError(f"MIDAS_BACKUP_TO ({settings.backup_to}) cannot be opened: {why}.") from None
    return place


def write_manifest(folder: UPath, manifest: Manifest, key: MasterKey) -> None:
    """Signs the manifest and makes the backup count: until now it was none."""
    manifest.signature = manifest.signed_with(key)
    local = is_local(folder)  # an object of a bucket appears whole or not at all
    written = folder / (f"{MANIFEST}.tmp" if local else MANIFEST)
    written.write_text(json.dumps(asdict(manifest), indent=1))
    if local:
        os.replace(str(written), str(folder / MANIFEST))


def backups(place: UPath) -> list[tuple[UPath, Manifest]]:
    """Every whole backup, the newest first; their signatures are not looked at."""
    found = []
    for begun, folder in _folders(place):
        with suppress(OSError, ValueError):  # a half one, or no manifest of ours
            manifest = TypeAdapter(Manifest).validate_json((folder / MANIFEST).read_text())
            if manifest.moment == begun:  # not an older one under a newer name
                found.append((folder, manifest))
    return sorted(found, key=lambda one: one[1].made_at, reverse=True)


def find_backup(settings: Settings, name: str | None, *, unsigned: bool = False) -> Backup:
    """The backup of that name, or the newest, as it was signed; `unsigned` also takes one whose key is lost. Raises
    Damaged where there is none as it was written, SettingsError without the signing key."""
    keys, place = identities(settings.backup_identity_file), backup_place(settings)
    found = next((one for one in backups(place) if name in (None, one[0].name)), None)
    if found is None:
        raise Damaged(f"There is no backup {name or ''}".rstrip() + f" in {place}: see `midas backup list`.")
    folder, manifest = found
    key_id = manifest.signature.partition(":")[0]
    key = None
    with suppress(KeyError):
        key = key_ring(settings).find(key_id) if key_is_there(settings) else None
    if key is None and not unsigned:
        raise SettingsError(
            f"The backup {folder.name} is signed with the payload key {key_id[:8]!r}, which is missing here: set "
            "MIDAS_PAYLOAD_KEY to the keys that you keep, or MIDAS_PAYLOAD_KEY_FILE to their file. If that key is lost, "
            "`midas backup restore --unsigned` restores without the proof of who wrote the backup."
        )
    if key and not hmac.compare_digest(manifest.signature.encode(), manifest.signed_with(key).encode()):
        raise Damaged(f"The manifest of {folder.name} was changed: do not restore it. Take another backup.")
    return Backup(folder, manifest, keys)


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
    now, removed = datetime.now(UTC), 0
    whole = {folder.name for folder, _ in backups(place)}
    folders = _folders(place)
    stay = kept([begun for begun, folder in folders if folder.name in whole], now, days)
    for begun, folder in folders:
        if begun in stay if folder.name in whole else now - begun <= ABANDONED:
            continue
        removed += 1
        (folder / MANIFEST).unlink(missing_ok=True)  # first: half a backup counts as none
        for part in list(folder.iterdir()):
            part.unlink(missing_ok=True)
        with suppress(OSError, NotImplementedError):
            folder.rmdir()
    return removed


def _folders(place: UPath) -> list[tuple[datetime, UPath]]:
    """Folders with a backup's name, each with the moment in it."""
    found = []
    for folder in place.iterdir() if place.exists() else ():
        with suppress(ValueError):
            found.append((datetime.strptime(folder.name, FORM).replace(tzinfo=UTC), folder))
    return found
