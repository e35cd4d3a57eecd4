"""The picture of `benchmarks/README.md`: what an item costs, and the peak memory, by the size of the catalogue."""

from __future__ import annotations

from typing import Any

COLUMNS = (  # number of the result, its unit, where it begins, pixels a unit, colour
    ("processor_ms", "ms of processor an item", 330, 600, "#5b9bd5"),
    ("clock_ms", "ms by the clock an item", 520, 450, "#c58a4a"),
    ("peak_mb", "MB at most", 710, 0.4, "#8aab5c"),
)
WIDTH, LINE = 900, 20


def picture(rows: list[dict[str, Any]]) -> str:
    """The rows of results that have these numbers, as bars in an SVG."""
    parts = [_text(x, 14, title) for _, title, x, _, _ in COLUMNS]
    top = LINE + 4
    for row in rows:
        if not (numbers := row.get("numbers")):
            continue
        parts.append(_text(COLUMNS[0][2] - 10, top + 11, row["promise"], "end"))
        for name, _, x, scale, colour in COLUMNS:
            number = numbers.get(name, 0.0)
            parts.append(
                f'<rect x="{x}" y="{top}" width="{number * scale:.0f}" height="13" fill="{colour}"/>'
            )
            parts.append(
                _text(x + 6 + round(number * scale), top + 11, f"{number:.3g}" if number else "not measured")
            )
        top += LINE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 6}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _text(x: int, y: int, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
