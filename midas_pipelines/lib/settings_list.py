"""Every setting: its variable, its default, its bounds, what it decides, and its value now with secrets masked."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import chain, pairwise
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from midas_pipelines import setting_groups
from midas_pipelines.settings import VARIABLES, Settings

SIGNS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}


def setting_rows(now: Settings | None = None) -> list[dict[str, Any]]:
    """A row for each setting; with the value in force, and where it comes from, where `now` is given."""
    rows = []
    for name, field in Settings.model_fields.items():
        row = {
            "name": VARIABLES[name],
            "default": "" if field.default in (None, PydanticUndefined) else str(field.default),
            "bounds": ", ".join(
                f"{sign} {getattr(bound, kind.__name__.lower())}"
                for bound in field.metadata
                for kind, sign in SIGNS.items()
                if isinstance(bound, kind)
            ),
            "what": _descriptions()[name],
        }
        if now is not None:
            value = getattr(now, name)
            row["now"] = "(set)" if isinstance(value, SecretStr) else str("" if value is None else value)
            row["source"] = "environment" if name in now.model_fields_set else "default"
        rows.append(row)
    return rows


@cache
def _descriptions() -> dict[str, str]:
    """What each setting decides: the docstring below it, read here alone, since that takes longer than the settings."""
    statements = ast.walk(ast.parse(inspect.getsource(setting_groups)))
    bodies = [model.body for model in statements if isinstance(model, ast.ClassDef)]
    return {
        ast.unparse(field.target): " ".join(ast.literal_eval(below.value).split())
        for field, below in chain.from_iterable(map(pairwise, bodies))
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr)
    }
