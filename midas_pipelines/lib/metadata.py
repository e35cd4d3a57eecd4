"""Turns a report of the engine into the metadata that the UI plots and shows, with links to the pages of what it names.

Where those pages are the settings say (MIDAS_SHOP_PAGE and the like); without them no link is shown.
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, TypedDict
from urllib.parse import quote

import dagster as dg

from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.text import counted, escaped
from midas_pipelines.workflows import pool_of

OWNERS = [SETTINGS.owner]
SHOP, FOURSELLER = {"writes/shop": ""}, {"writes/fourseller": ""}
"""Tags for what an asset changes; search for them as `tag:"writes/fourseller"`."""
PERSONAL = {"data/personal": ""}
"""The tag of what handles names and addresses of customers."""


class RunOptions(TypedDict):
    """Options of `dg.asset`."""

    owners: list[str]
    pool: str


def run_options(name: str) -> RunOptions:
    """Owners and pool of an asset, as the table of workflows has them, for `dg.asset`."""
    return {"owners": OWNERS, "pool": pool_of(name)}


def observed(key: Sequence[str], **options: Any) -> Callable[[Callable[..., dg.ObserveResult]], Any]:
    """The decorator of such an asset; its function returns what it saw. `options` are those of `dg.AssetSpec`."""

    def declare(look: Callable[..., dg.ObserveResult]) -> Any:
        spec = dg.AssetSpec(list(key), description=look.__doc__, owners=OWNERS, **options)
        return dg.multi_observable_source_asset(specs=[spec], name="__".join(key))(look)

    return declare


LIVE = dg.DataVersion("live")
LIVE_TAG = {"dagster/data_version": LIVE.value}
"""The version of all that is materialized: the engine compares states, so Dagster is to call nothing "Unsynced"."""


IN_DAGSTER = {"dagster/uri": "dagster://history"}
"""Where a report is that only its materializations hold."""


def made(
    context: "engine.SyncContext", metadata: Mapping[str, Any], *, shared: bool = False, **more: Any
) -> dg.MaterializeResult[Any]:
    """What an asset returns: these facts, and how long it took where they do not say so.

    `shared` facts are shown with each partition of a run over several: none of them took the seconds of all.
    """
    facts = ({} if shared else {"seconds": context.seconds}) | known(metadata)
    return dg.MaterializeResult(metadata=facts, data_version=LIVE, **more)


def known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that say something: no empty table, no empty text."""
    return {name: fact for name, fact in metadata.items() if fact not in (None, "")}


def numbers(report: object, *names: str, **renamed: str) -> dict[str, int | float]:
    """The named counts of a report, `renamed` under other names; the UI plots them over time."""
    return {
        shown: getattr(report, name)
        for shown, name in {**dict(zip(names, names, strict=True)), **renamed}.items()
    }


def counts_in_words(report: Any, *names: str) -> str:
    """The named counts of a report that are not zero, with its requests and seconds, as a line of a log."""
    counts = counted(numbers(report, *names))
    return f"{counts or 'nothing to do'}; {report.requests} requests in {report.seconds:.1f} s."


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


ROW, LABEL, WIDTH = 18, 160, 300
"""Pixels: height of a bar's row, room for its name, length of the longest bar."""


def bars(values: Sequence[tuple[str, float, float]], unit: str) -> dg.MarkdownMetadataValue:
    """Bars by name, each with its value and a mark at its limit; an empty chart says so.

    Args:
        values: name, value and limit, all in `unit`.
        unit: what is counted, for the legend.
    """
    if not values:
        return dg.MetadataValue.md("Nothing to show.")
    longest = max(1.0, *(max(value, limit) for _, value, limit in values))
    rows = [_bar(place, row, WIDTH / longest) for place, row in enumerate(values)]
    height = ROW * len(values) + 8
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + WIDTH + 60}" height="{height}" '
        f'font-family="sans-serif" font-size="11">{"".join(rows)}</svg>'
    )
    encoded = base64.b64encode(svg.encode()).decode()
    return dg.MetadataValue.md(
        f"![{unit}](data:image/svg+xml;base64,{encoded})\n\n{unit}; the line marks the limit."
    )


def _bar(place: int, row: tuple[str, float, float], scale: float) -> str:
    name, value, limit = row
    top, length, mark = place * ROW + 4, max(1.0, value * scale), LABEL + limit * scale
    colour = "#d9534f" if value <= limit else "#5b9bd5"
    return (
        f'<text x="{LABEL - 6}" y="{top + 11}" text-anchor="end">{escape(name[:24])}</text>'
        f'<rect x="{LABEL}" y="{top}" width="{length:.1f}" height="{ROW - 5}" fill="{colour}"/>'
        f'<text x="{LABEL + length + 4:.1f}" y="{top + 11}">{value:g}</text>'
        f'<line x1="{mark:.1f}" x2="{mark:.1f}" y1="{top - 2}" y2="{top + ROW - 3}" stroke="#333"/>'
    )


MOST_LINKED = 20
Shown = dict[str, dg.MarkdownMetadataValue]


def links(context: "engine.SyncContext", rows: Iterable[Mapping[str, Any]]) -> Shown:
    """Metadata `links`: one line for each item (by `sku`) and order (by `order`) in the rows, 20 at most.

    Empty where no page is set or no row names one that is known.
    """
    settings = context.settings
    console = settings.console_url and settings.console_url.rstrip("/")
    of_items = {
        "console": console and console + "/items/{sku}",
        "shop": settings.shop_page,
        "4Seller": settings.fourseller_page,
    }
    of_orders = {
        "console": console and console + "/orders/{order}",
        "shop": settings.shop_order_page,
        "4Seller": settings.fourseller_order_page,
    }
    shown = list(rows)
    lines: list[str] = []
    for column, pages in (("sku", of_items), ("order", of_orders)):
        wanted = list(dict.fromkeys(str(row[column]) for row in shown if row.get(column)))[:MOST_LINKED]
        if wanted and any(pages.values()):
            known = engine.page_names(context.database, column, wanted)
            lines += [_line(name, known[name], pages) for name in wanted if name in known]
    return {"links": dg.MetadataValue.md("\n".join(lines))} if any(lines) else {}


def _line(name: str, names: "engine.Names", pages: Mapping[str, str | None]) -> str:
    found = {where: _address(template, names) for where, template in pages.items() if template}
    title = f" {escaped(names['title'])}" if names.get("title") else ""
    return f"- {escaped(name)}{title}: " + ", ".join(
        f"[{where}]({url})" for where, url in found.items() if url
    )


def _address(template: str, names: "engine.Names") -> str | None:
    """The template filled in; None where something that it names is not there, such as a product never listed."""
    missing = [name for name, value in names.items() if not value and "{" + name + "}" in template]
    return (
        None if missing else template.format(**{name: quote(value, safe="") for name, value in names.items()})
    )
