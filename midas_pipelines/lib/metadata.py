"""Turns a report of the engine into the metadata that the UI plots and shows, with links to the pages of what it names.

Where those pages are the settings say (MIDAS_SHOP_PAGE and the like); without them no link is shown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from urllib.parse import quote

import dagster as dg

from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.text import counted, counts_of, escaped

OWNERS, PRODUCTS = [SETTINGS.owner], dg.AssetKey(["storefront", "products"])
SHOP, FOURSELLER = {"writes/shop": ""}, {"writes/fourseller": ""}
"""Tags for what an asset changes; search for them as `tag:"writes/fourseller"`."""
PERSONAL = {"data/personal": ""}  # the tag of what handles names and addresses of customers


def observed(key: Sequence[str], **options: Any) -> Callable[[Callable[..., dg.ObserveResult]], Any]:
    """The decorator of such an asset; its function returns what it saw. `options` are those of `dg.AssetSpec`."""

    def declare(look: Callable[..., dg.ObserveResult]) -> Any:
        spec = dg.AssetSpec(list(key), description=look.__doc__, **options)
        return dg.multi_observable_source_asset(specs=[spec], name="__".join(key))(look)

    return declare


LIVE = dg.DataVersion("live")
LIVE_TAG = {"dagster/data_version": LIVE.value}
"""The version of all that is materialized: the engine compares states, so Dagster is to call nothing "Unsynced"."""


IN_DAGSTER = {"dagster/uri": "dagster://history"}  # where a report is that only its materializations hold


def made(
    context: "engine.SyncContext", metadata: Mapping[str, Any], *, shared: bool = False, **more: Any
) -> dg.MaterializeResult[Any]:
    """What an asset returns: these facts, and how long it took where they do not say so. `shared` facts are shown
    with each partition of a run over several: none of them took the seconds of all."""
    facts = ({} if shared else {"seconds": context.seconds}) | known(metadata)
    return dg.MaterializeResult(metadata=facts, data_version=LIVE, **more)


def known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that say something: no empty table, no empty text."""
    return {name: fact for name, fact in metadata.items() if fact not in (None, "")}


def numbers(report: object, *names: str, **renamed: str) -> dict[str, int | float]:
    """The named counts of a report, by the words for them, `renamed` under other names; the UI plots them over time."""
    shown = {name: name for name in names} | renamed
    return {word: getattr(report, name) for word, name in shown.items()}


def counts(report: Any) -> dict[str, int | float]:
    """All that a sync counted, with its requests and seconds, by the words for them."""
    return numbers(report, *counts_of(vars(report)), "requests", "seconds")


def counts_in_words(report: Any) -> str:
    """What a sync counted that is not zero, with its requests and seconds, as a line of a log."""
    words = counted(counts_of(vars(report)))
    return f"{words or 'nothing to do'}; {report.requests} requests in {report.seconds:.1f} s."


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue | None:
    """Rows as a table, every cell as text; None where there are none."""
    if not rows:
        return None
    columns = list(dict.fromkeys(name for row in rows for name in row))
    records = [dg.TableRecord({name: _cell(row.get(name)) for name in columns}) for row in rows]
    return dg.MetadataValue.table(records)


def titled(context: "engine.SyncContext", rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows with the title of the item behind its SKU, which says nothing to most people."""
    skus = {str(row["sku"]) for row in rows if row.get("sku") and "title" not in row}
    known = engine.page_names(context.database, "sku", skus) if skus else {}
    return [
        {"sku": row["sku"], "title": known[row["sku"]]["title"], **row} if row.get("sku") in known else row
        for row in rows
    ]


def tables(context: "engine.SyncContext", **rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each of these lists as a table, with titles, and `links` to the pages of all that they name."""
    shown = {name: table(titled(context, found)) for name, found in rows.items()}
    return shown | links(context, chain.from_iterable(rows.values()))


def columns(**described: str) -> dict[str, dg.TableSchema]:
    """The column schema of a table: name="type: what it holds"."""
    made = []
    for name, text in described.items():
        kind, _, description = text.partition(": ")
        made.append(dg.TableColumn(name, kind, description=description))
    return {"dagster/column_schema": dg.TableSchema(columns=made)}


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return "" if value is None else str(value)


MOST_LINKED = 20
Shown = dict[str, dg.MarkdownMetadataValue]


def links(context: "engine.SyncContext", rows: Iterable[Mapping[str, Any]]) -> Shown:
    """Metadata `links`: one line for each item (by `sku`) and order (by `order`) in the rows, 20 at most; empty
    where no page is set or no row names one that is known."""
    settings = context.settings
    console = settings.console_url and settings.console_url.rstrip("/")
    pages = {
        "sku": (console and console + "/items/{sku}", settings.shop_page, settings.fourseller_page),
        "order": (
            console and console + "/orders/{order}",
            settings.shop_order_page,
            settings.fourseller_order_page,
        ),
    }
    shown = list(rows)
    lines: list[str] = []
    for column, templates in pages.items():
        wanted = list(dict.fromkeys(str(row[column]) for row in shown if row.get(column)))[:MOST_LINKED]
        if wanted and any(templates):
            known = engine.page_names(context.database, column, wanted)
            lines += [_line(name, known[name], templates) for name in wanted if name in known]
    return {"links": dg.MetadataValue.md("\n".join(lines))} if any(lines) else {}


def _line(name: str, names: "engine.Names", templates: Iterable[str | None]) -> str:
    """The pages that can be named: not those of something that is not there, such as a product never listed."""
    quoted = {name: quote(value, safe="") for name, value in names.items()}
    missing = ["{" + name + "}" for name, value in names.items() if not value]
    found = [
        f"[{where}]({template.format(**quoted)})"
        for where, template in zip(("console", "shop", "4Seller"), templates, strict=True)
        if template and not any(one in template for one in missing)
    ]
    title = f" {escaped(names['title'])}" if names.get("title") else ""
    return f"- {escaped(name)}{title}: {', '.join(found)}"
