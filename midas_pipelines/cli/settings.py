"""`midas settings`: every setting, what it is now, its default and its bounds."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from typing import Any

import click
from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.notify.targets import read_targets, require_understood
from midas_pipelines.settings import Settings, load_settings, variable_of

SIGNS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}


@click.command()
@click.option("--markdown", is_flag=True, help="Print the page docs/settings.md: defaults, not values.")
@json_option
def settings(markdown: bool, as_json: bool) -> None:
    """Show every setting: its name in the environment, its value now, its default and its bounds. Secrets are masked."""
    if markdown:
        click.echo(page(), nl=False)
        return
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    now = load_settings()
    require_understood(read_targets(now.notify_urls), thorough=True)
    for row, name in zip(rows, Settings.model_fields, strict=True):
        row["now"] = _masked(getattr(now, name))
    if as_json:
        print_json({"settings": rows})
    else:
        print_table("Settings", [{"name": r["name"], "now": r["now"], "default": r["default"]} for r in rows])


def page() -> str:
    """The page of the documentation, from the settings' own descriptions."""
    lines = [
        "# Settings",
        "",
        "All come from the environment and are read once, at the start of a run. A wrong one is refused with a sentence.",
        "`midas settings` shows what is in force. This page is printed by `midas settings --markdown`.",
        "",
        "| name | default | bounds | what it decides |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        row = _row(name, field)
        lines.append(f"| `{row['name']}` | {row['default']} | {row['bounds']} | {row['what']} |")
    return "\n".join(lines) + "\n"


def _row(name: str, field: FieldInfo) -> dict[str, Any]:
    return {
        "name": variable_of(name),
        "default": "" if field.default in (None, PydanticUndefined) else str(field.default),
        "bounds": ", ".join(_bounds(field)),
        "what": _descriptions()[name],
    }


@cache
def _descriptions() -> dict[str, str]:
    """What each setting decides: the docstring below it, read here alone, since that takes longer than the settings."""
    (model,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(model, ast.ClassDef)
    found = {}
    for field, below in pairwise(model.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            found[ast.unparse(field.target)] = " ".join(ast.literal_eval(below.value).split())
    return found


def _bounds(field: FieldInfo) -> list[str]:
    found = []
    for bound in field.metadata:
        for kind, sign in SIGNS.items():
            if isinstance(bound, kind):
                found.append(f"{sign} {getattr(bound, kind.__name__.lower())}")
    return found


def _masked(value: object) -> str:
    if isinstance(value, SecretStr):
        return "(set)"
    return "" if value is None else str(value)
