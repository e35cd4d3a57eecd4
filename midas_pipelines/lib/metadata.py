"""Turning a report of the engine into the metadata that the UI plots and shows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import pandas as pd

OWNERS = ["team:marketplaces"]
SHOP, FOURSELLER, PEOPLE = {"writes/shop": ""}, {"writes/fourseller": ""}, {"writes/people": ""}
"""Tags for what an asset changes, or whom it writes to; search for them as `tag:"writes/fourseller"`."""
PERSONAL = {"data/personal": ""}
"""The tag of what handles names and addresses of customers."""


def numbers(report: object, *names: str) -> dict[str, int | float]:
    """The named counts of a report; the UI plots them over time."""
    return {name: getattr(report, name) for name in names}


def counts_in_words(report: Any, *names: str) -> str:
    """The named counts of a report that are not zero, with its requests and seconds, as a line of a log."""
    counts = [f"{value} {name.replace('_', ' ')}" for name in names if (value := getattr(report, name))]
    return f"{', '.join(counts) or 'nothing to do'}; {report.requests} requests in {report.seconds:.1f} s."


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue | dg.TextMetadataValue:
    """Rows as a table, every cell as text; "none" where there are none."""
    if not rows:
        return dg.MetadataValue.text("none")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    records = [dg.TableRecord({name: _cell(row.get(name)) for name in columns}) for row in rows]
    return dg.MetadataValue.table(records)


def preview(frame: "pd.DataFrame", rows: int = 10) -> dg.TableMetadataValue | dg.TextMetadataValue:
    """The first rows of a frame as a table."""
    return table(
        [{str(name): value for name, value in row.items()} for row in frame.head(rows).to_dict("records")]
    )


def columns(**described: str) -> dict[str, dg.TableSchema]:
    """The column schema of a table: name="type: what it holds"."""
    made = []
    for name, text in described.items():
        kind, _, description = text.partition(": ")
        made.append(dg.TableColumn(name, kind, description=description))
    return {"dagster/column_schema": dg.TableSchema(columns=made)}


def _cell(value: object) -> str:
    return "" if value is None else str(value)
