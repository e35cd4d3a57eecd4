"""Where snapshots are kept: a Parquet file for each kind and day (UTC), in a folder or in a bucket (s3://)."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midas_pipelines.errors import WrongInput
from midas_pipelines.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    from upath import UPath

CATALOG, LISTING = "catalog_snapshot", "listing_snapshot"
SUFFIX = ".parquet"
CHUNK = 5000
"""Rows of one row group: as many are in memory while a snapshot is written."""

FACTS = b"midas"
"""The key under which a file holds what is true of all its rows."""


class NoSnapshot(WrongInput):
    """No snapshot of that day is kept."""

    http_status = 404


@dataclass(frozen=True)
class Spool:
    """A written snapshot that is not at its place yet: a file of this machine, its rows, and facts about them."""

    path: Path
    rows: int
    facts: Mapping[str, Any]


def spool(schema: pa.Schema, rows: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> Spool:
    """Writes the rows to a file of this machine, `CHUNK` at a time.

    Args:
        schema: the columns.
        rows: read once, while they are written.
        facts: what is true of all rows; read after the last one, so that it may be counted meanwhile.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    handle, name = tempfile.mkstemp(prefix="midas-", suffix=SUFFIX)
    os.close(handle)
    path, written, left = Path(name), 0, iter(rows)
    try:
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            while chunk := list(islice(left, CHUNK)):
                writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=schema))
                written += len(chunk)
            writer.add_key_value_metadata({FACTS: json.dumps(dict(facts), default=str)})
    except BaseException:
        path.unlink()
        raise
    return Spool(path, written, dict(facts))


def place(spooled: Path, target: UPath) -> None:
    """Puts a written file at its place; nobody ever reads half of one there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.protocol in ("", "file", "local"):
        part = Path(str(target) + ".part")
        shutil.move(spooled, part)
        os.replace(part, str(target))
        return
    target.fs.put_file(str(spooled), target.path)
    spooled.unlink()


@dataclass(frozen=True)
class Snapshots:
    """The kept snapshots.

    Args:
        root: a folder or an address such as s3://bucket/midas.
    """

    root: UPath

    @classmethod
    def of(cls, settings: Settings) -> Snapshots:
        """Those of the installation."""
        from upath import UPath

        return cls(UPath(settings.snapshots_place()))

    def path(self, kind: str, day: date) -> UPath:
        """The file of that kind and day, whether it exists or not."""
        return self.root / kind / f"{day:%Y-%m-%d}{SUFFIX}"

    def days(self, kind: str) -> list[date]:
        """The days of which a snapshot of that kind is kept, the oldest first."""
        folder = self.root / kind
        found = (_day(file.name) for file in folder.iterdir()) if folder.exists() else ()
        return sorted(day for day in found if day is not None)

    def read(self, kind: str, day: date, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The snapshot as a frame. Raises NoSnapshot, which names the nearest days that have one."""
        import pandas as pd

        try:
            with self.path(kind, day).open("rb") as file:
                return pd.read_parquet(file, columns=None if columns is None else list(columns))
        except FileNotFoundError:
            raise NoSnapshot(self._missing(kind, day)) from None

    def chunks(self, kind: str, day: date, columns: Sequence[str]) -> Iterator[Iterator[tuple[Any, ...]]]:
        """The rows of a snapshot, `CHUNK` at a time, each as the values of these columns. Raises NoSnapshot."""
        import pyarrow.parquet as pq

        try:
            with self.path(kind, day).open("rb") as file:
                for batch in pq.ParquetFile(file).iter_batches(CHUNK, columns=list(columns)):
                    yield zip(*(batch[name].to_pylist() for name in columns), strict=True)
        except FileNotFoundError:
            raise NoSnapshot(self._missing(kind, day)) from None

    def facts(self, kind: str, day: date) -> dict[str, Any]:
        """What is true of all rows of the snapshot. Raises NoSnapshot."""
        return dict(json.loads((self._footer(kind, day).metadata or {}).get(FACTS, b"{}")))

    def rows(self, kind: str, day: date) -> int:
        """How many rows that snapshot has. Raises NoSnapshot."""
        return int(self._footer(kind, day).num_rows)

    def _footer(self, kind: str, day: date) -> pq.FileMetaData:
        import pyarrow.parquet as pq

        try:
            with self.path(kind, day).open("rb") as file:
                return pq.ParquetFile(file).metadata
        except FileNotFoundError:
            raise NoSnapshot(self._missing(kind, day)) from None

    def newest_of(self, kind: str, run_set: str) -> tuple[date, dict[str, Any]] | None:
        """The newest day and its facts, where that snapshot was made for this run or backfill."""
        days = self.days(kind)
        facts = self.facts(kind, days[-1]) if days else {}
        return (days[-1], facts) if facts.get("run_set") == run_set else None

    def remove_before(self, day: date) -> int:
        """Deletes the snapshots of earlier days; returns how many."""
        old = [(kind, one) for kind in (CATALOG, LISTING) for one in self.days(kind) if one < day]
        for kind, one in old:
            self.path(kind, one).unlink()
        return len(old)

    def _missing(self, kind: str, day: date) -> str:
        kept = self.days(kind)
        before = [one for one in kept if one < day][-1:]
        after = [one for one in kept if one > day][:1]
        nearest = " and ".join(f"{one:%Y-%m-%d}" for one in (*before, *after))
        advice = (
            f"the nearest days that have one: {nearest}."
            if nearest
            else "none is kept yet. `midas sync products --full` makes the first."
        )
        return f"There is no {kind} of {day:%Y-%m-%d} in {self.root}; {advice}"


def today() -> date:
    """The day that a snapshot made now belongs to, in UTC."""
    return datetime.now(UTC).date()


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name.removesuffix(SUFFIX)) if name.endswith(SUFFIX) else None
    except ValueError:
        return None  # a file of somebody else's
