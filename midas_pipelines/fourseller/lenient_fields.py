"""Fields of models that are read leniently: an unreadable value counts as missing, and its field is recorded.

The names of unreadable fields go to the list that is the validation context; without a context, as when a draft of ours
is built, an unreadable value is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BeforeValidator, PlainValidator, ValidationInfo

from midas_pipelines.fourseller.lenient import read_object, read_personal, read_rows


def lenient(read: Callable[[Any], Any]) -> BeforeValidator:
    """A field read by `read`: missing and recorded where unreadable."""

    def field(value: Any, info: ValidationInfo) -> Any:
        try:
            return read(value)
        except (ValueError, ArithmeticError):
            _note(info)
            return None

    return BeforeValidator(field)


def lenient_rows(read: Callable[[Any], Any], *, otherwise: Any = None) -> BeforeValidator:
    """A list read row by row: an unreadable row is recorded and left out, or becomes `otherwise`."""

    def rows(value: Any, info: ValidationInfo) -> list[Any]:
        found = []
        try:
            for row in read_rows(value):
                try:
                    found.append(read(row))
                except ValueError:
                    _note(info)
                    found.append(otherwise)
        except ValueError:
            _note(info)
        return [row for row in found if row is not None]

    return BeforeValidator(rows)


def lenient_texts(*names: str) -> PlainValidator:
    """An object about the buyer, of which these fields are read as such texts; its others are kept as they came."""

    def part(value: Any, info: ValidationInfo) -> dict[str, Any] | None:
        try:
            given = read_object(value)
        except ValueError:
            _note(info)
            given = None
        if given is None:
            return None
        found: dict[str, Any] = dict.fromkeys(names) | given
        for name in names:
            try:
                found[name] = read_personal(found[name])
            except ValueError:
                _note(info, name)
                found[name] = None
        return found

    return PlainValidator(part)


def _note(info: ValidationInfo, name: str | None = None) -> None:
    if info.context is None:
        raise ValueError("cannot be read")
    info.context.append(name or info.field_name)
