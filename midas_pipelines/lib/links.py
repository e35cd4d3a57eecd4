"""Links from what the UI shows to the page of the item or order, in the console, in the shop and at 4Seller.

Where those pages are the settings say (MIDAS_SHOP_PAGE and the like); without them nothing is shown.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import dagster as dg

from midas_pipelines.lib import engine
from midas_pipelines.sync.operations.formatting import plain

MOST = 20
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
    for column, pages, names_of in (
        ("sku", of_items, engine.item_names),
        ("order", of_orders, engine.order_names),
    ):
        wanted = list(dict.fromkeys(str(row[column]) for row in shown if row.get(column)))[:MOST]
        if wanted and any(pages.values()):
            known = names_of(context.database, wanted)
            lines += [_line(name, known[name], pages) for name in wanted if name in known]
    return {"links": dg.MetadataValue.md("\n".join(lines))} if any(lines) else {}


def _line(name: str, names: "engine.Names", pages: Mapping[str, str | None]) -> str:
    found = {where: _address(template, names) for where, template in pages.items() if template}
    return f"- {plain(name)}: " + ", ".join(f"[{where}]({url})" for where, url in found.items() if url)


def _address(template: str, names: "engine.Names") -> str | None:
    """The template filled in; None where something that it names is not there, such as a product never listed."""
    missing = [name for name, value in names.items() if not value and "{" + name + "}" in template]
    return (
        None if missing else template.format(**{name: quote(value, safe="") for name, value in names.items()})
    )
