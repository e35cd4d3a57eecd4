"""Where snapshots are kept: a Parquet file for each kind and day of the shop, in a folder or in a bucket (s3://)."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from midas_pipelines.errors import WrongInput
from midas_pipelines.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from upath import UPath

CATALOG, LISTING = "catalog_snapshot", "listing_snapshot"
COLUMNS = {
    CATALOG: {
        "sku": "string: the shop's SKU; empty where the shop gave none",
        "title": "string: as buyers see it",
        "category": "string: the shop's",
        "brand": "string: as buyers see it",
        "price": "decimal: selling price in USD, after adjustment and discount",
        "on_hand": "int: stock in the shop",
        "available": "int: what channels may show",
        "state": "string: new, listed, quarantined or removed",
        "reason": "string: why it cannot be listed",
        "product_id": "int: the shop's product",
        "variant_id": "int: its variant, empty for a product without",
        "mapping_id": "int: its row in fourseller_product_mappings; modulo MIDAS_SHARDS it is the shard",
        "fourseller_product_id": "string: its product on 4Seller",
        "expected_price": "decimal: what 4Seller should show, in USD, the shop's price while a conflict waits for a person; empty "
        "where the item should not be listed",
        "expected_quantity": "int: what 4Seller should show",
        "expected_content": "string: hash of the text, images and dimensions that 4Seller should show",
        "accepted_content": "string: hash of the form in which 4Seller keeps them",
        "is_waiting": "bool: a change of it waits for its turn to be pushed; false where a push of it failed or is overdue",
        "acked_at": "timestamp: when 4Seller last confirmed a push",
    },
    LISTING: {
        "fourseller_product_id": "string: the product on 4Seller",
        "sku": "string: as 4Seller spells it",
        "title": "string: as buyers see it",
        "price": "decimal: USD, as buyers see it; empty where it is not shown or beyond a million",
        "quantity": "int: on sale",
        "status": "string: 4Seller's own word",
        "content": "string: hash of text, images and dimensions; empty where 4Seller does not show all of them",
        "updated_at": "timestamp: when 4Seller says that it last changed",
        "answer": "bytes: the product as 4Seller sent it, JSON",
        "stamp": "bytes: digest of this answer without that date",
    },
}
"""The columns of the snapshots, each as "type: what it holds"; the pages of the two assets show the same."""

SUFFIX = ".parquet"
CHUNK = 1000  # rows of one row group: as many are in memory while a snapshot is written
FACTS = b"midas"  # the key under which a file holds what is true of all its rows


class NoSnapshot(WrongInput):
    """No snapshot of that day is kept, or none that has the item."""

    http_status = 404


@dataclass(frozen=True)
class Spool:
    """A written snapshot that is not at its place yet: a file of this machine, its rows, and facts about them."""

    path: Path
    rows: int
    facts: Mapping[str, Any]


def schema_of(kind: str) -> pa.Schema:
    """The types of the columns of that kind."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "decimal": pa.decimal128(18, 4),
        "int": pa.int64(),
        "bool": pa.bool_(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "bytes": pa.binary(),
    }
    return pa.schema([(name, types[text.partition(":")[0]]) for name, text in COLUMNS[kind].items()])


def spool(kind: str, rows: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> Spool:
    """Writes the rows of a snapshot to a file of this machine, `CHUNK` at a time; `facts` are what is true of all of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, schema, written, left = _scratch(), schema_of(kind), 0, iter(rows)
    try:
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            while chunk := list(islice(left, CHUNK)):
                writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=schema))
                written += len(chunk)
            writer.add_key_value_metadata({FACTS: json.dumps(dict(facts), default=str)})
    except BaseException:
        path.unlink()
        raise
    return Spool(path, written, facts)


def _scratch() -> Path:
    with tempfile.NamedTemporaryFile(prefix="midas-", suffix=SUFFIX, delete=False) as file:
        return Path(file.name)


def is_local(place: UPath) -> bool:
    """Whether it is a folder or file of this machine."""
    return place.protocol in ("", "file", "local")


def place(spooled: Path, target: UPath) -> None:
    """Puts a written file at its place; a reader finds a whole one there, or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_local(target):
        part = Path(f"{target}.part")
        shutil.move(spooled, part)
        os.replace(part, str(target))
    else:
        target.fs.put_file(str(spooled), target.path)
        spooled.unlink()


@dataclass(frozen=True)
class Snapshots:
    """The kept snapshots, in a folder or at an address such as s3://bucket/midas.

    Beside those of days there are those that the runs of a backfill or tick share, named `<day>_<its tag>` and read by it.
    What reads one raises NoSnapshot where there is none of that day, and names the nearest days that have one.
    """

    root: UPath

    @classmethod
    def of(cls, settings: Settings) -> Snapshots:
        """Those of the installation."""
        from upath import UPath

        return cls(UPath(settings.snapshots_place()))

    def path(self, kind: str, name: date | str) -> UPath:
        """The file of that kind and day, or run set, whether it exists or not."""
        return self.root / kind / f"{name}{SUFFIX}"

    def days(self, kind: str) -> list[date]:
        """The days of which a snapshot of that kind is kept, the oldest first."""
        return [day for day, name in self._dated(kind) if name == str(day)]

    def _dated(self, kind: str) -> list[tuple[date, str]]:
        folder, found = self.root / kind, []
        for file in folder.iterdir() if folder.exists() else ():
            with suppress(ValueError):  # another program's file
                if file.name.endswith(SUFFIX):
                    name = file.name.removesuffix(SUFFIX)
                    found.append((date.fromisoformat(name.partition("_")[0]), name))
        return sorted(found)

    def read(
        self,
        kind: str,
        day: date,
        columns: Sequence[str] | None = None,
        *,
        where: tuple[str, object] | None = None,
    ) -> pd.DataFrame:
        """The snapshot as a frame, or those of its rows `where` a column has that value: the others are not kept in memory."""
        import pandas as pd

        filters = None if where is None else [(where[0], "==", where[1])]
        with self._open(kind, day) as file:
            return pd.read_parquet(file, columns=None if columns is None else list(columns), filters=filters)

    def batches(self, kind: str, day: date | str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These columns of a snapshot, in the file's order, `CHUNK` rows at a time."""
        import pyarrow.parquet as pq

        with self._open(kind, day) as file:
            yield from pq.ParquetFile(file).iter_batches(CHUNK, columns=list(columns))

    def facts(self, kind: str, day: date | str) -> dict[str, Any]:
        """What is true of all rows of the snapshot."""
        return dict(json.loads((self._footer(kind, day).metadata or {}).get(FACTS, b"{}")))

    def rows(self, kind: str, day: date | str) -> int:
        """How many rows that snapshot has."""
        return int(self._footer(kind, day).num_rows)

    def _footer(self, kind: str, day: date | str) -> Any:
        import pyarrow.parquet as pq

        with self._open(kind, day) as file:
            return pq.read_metadata(file)

    def newest_of(self, kind: str, run_set: str) -> tuple[date, dict[str, Any]] | None:
        """The newest day and its facts, where that snapshot was made for this run or backfill."""
        days = self.days(kind)
        facts = self.facts(kind, days[-1]) if days else {}
        return (days[-1], facts) if facts.get("run_set") == run_set else None

    def copied(self, kind: str, run_set: str) -> Spool:
        """A copy of what runs share, to be placed as the day's."""
        shared, path = self.path(kind, run_set), _scratch()
        shared.fs.get_file(shared.path, str(path))
        return Spool(path, self.rows(kind, run_set), self.facts(kind, run_set))

    def remove_before(self, day: date, today: date) -> int:
        """Deletes the snapshots of earlier days, and what runs shared before today; returns how many."""
        dated = ((kind, *one) for kind in (CATALOG, LISTING) for one in self._dated(kind))
        old = [(kind, name) for kind, on, name in dated if on < (day if name == str(on) else today)]
        for file in old:
            self.path(*file).unlink()
        return len(old)

    @contextmanager
    def _open(self, kind: str, day: date | str) -> Iterator[IO[bytes]]:
        try:
            file = self.path(kind, day).open("rb")
        except FileNotFoundError:
            kept, name = [str(one) for one in self.days(kind)], str(day)
            nearest = [one for one in kept if one < name][-1:] + [one for one in kept if one > name][:1]
            advice = "none is kept yet. `midas sync products --full` makes the first."
            if nearest:
                advice = f"the nearest days that have one: {' and '.join(nearest)}."
            raise NoSnapshot(f"There is no {kind} of {day} in {self.root}; {advice}") from None
        with file:
            yield file


def plain(value: Any) -> Any:
    """A cell without pandas: None where it is missing, whole numbers as such, amounts without needless zeros."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if hasattr(value, "as_tuple"):
        return f"{value:.2f}" if value == round(value, 2) else f"{value:f}"
    return value.item() if hasattr(value, "item") else value
