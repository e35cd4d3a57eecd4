"""Small pictures for the UI: a bar chart as SVG inside a line of Markdown."""

import base64
from collections.abc import Sequence
from html import escape

import dagster as dg

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
