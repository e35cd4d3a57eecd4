"""Lists that are false, and a catalogue of which half is new, at 100,000 items: judged by what happens to the items.

A page that repeats and a total that moves must leave every item as it is; twins must be reported and left to a person; a
new item must be created once.
"""

from __future__ import annotations

from typing import Any

import httpx

from benchmarks.measuring import Result, shop_url
from benchmarks.scale.catalogue import add_products, confirm, fill
from benchmarks.scale.runs import KINDS, MEMORY_TARGET_MB, Run, run, serving
from benchmarks.scale.server import TWINS
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database

SIZE = 100_000
FALSE = {
    "repeats": "a page that repeats",
    "moves": "a total that moves",
    "twins": "two SKUs on two pages each",
}
ITEMS = "SELECT id, state, fourseller_product_id, dirty_since FROM fourseller_product_mappings ORDER BY id"
SETTLED = "UPDATE fourseller_product_mappings SET acked_at = '2026-01-01 00:00:00.000000'"


def measure(size: int = SIZE) -> list[Result]:
    """A full sync where half is new, then reconciliations of false lists, on both databases."""
    results = []
    for kind, name in KINDS.items():
        with shop_url(kind) as url, Database(load_settings(database_url=url).database()) as database:
            fill(database, size // 2)
            confirm(database, range(1, size // 2 + 1))
            with database.writing() as connection:
                add_products(connection, size // 2 + 1, size)
            results.append(_half_new(name, url, size))
            with database.writing() as connection:
                connection.exec_driver_sql(SETTLED)
            results += [_false(name, url, database, size, lie) for lie in FALSE]
    return results


def _half_new(name: str, url: str, size: int) -> Result:
    with serving(products=size // 2) as channel:
        done = run(url, channel, "full")
        made = httpx.get(f"{channel}/counts").json()
    report = done["report"]
    return _result(
        f"full sync of {size:,} items of which half are new, {name}",
        {
            "unchanged": report["unchanged"],
            "created": made["created"],
            "twice": made["posts"] - made["created"],
        },
        {"unchanged": size // 2, "created": size // 2, "twice": 0},
        done,
    )


def _false(name: str, url: str, database: Database, size: int, lie: str) -> Result:
    before = _items(database)
    with serving(products=size, lie=lie) as channel:
        done = run(url, channel, "reconcile")
        made = httpx.get(f"{channel}/counts").json()
    report, twins = done["report"], TWINS if lie == "twins" else 0
    return _result(
        f"reconcile of {size:,} items, {FALSE[lie]}, {name}",
        {
            "complete": report["complete"],
            "equal": report["equal"],
            "doubled": len(report["doubled"]),
            "items changed": sum(one != other for one, other in zip(before, _items(database), strict=True)),
            "writes": made["writes"],
        },
        {"complete": bool(twins), "equal": size, "doubled": twins, "items changed": 0, "writes": 0},
        done,
    )


def _items(database: Database) -> list[Any]:
    with database.reading() as connection:
        return list(connection.exec_driver_sql(ITEMS).all())


def _result(promise: str, found: dict[str, object], wanted: dict[str, object], done: Run) -> Result:
    return Result(
        promise,
        f"{_words(found)}; peak {done['peak_mb']:.0f} MB",
        f"{_words(wanted)}; <= {MEMORY_TARGET_MB:.0f} MB",
        found == wanted and done["peak_mb"] <= MEMORY_TARGET_MB,
        f"{done['seconds']:.1f} s",
    )


def _words(counts: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {count:,}" if type(count) is int else f"{name} {count}" for name, count in counts.items()
    )
