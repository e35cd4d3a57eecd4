"""Matches a request to an operation of the contract and validates its parameters and body."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import jsonschema_rs

from midas_pipelines.fourseller import contract
from midas_pipelines.sandbox.state import Refused

METHODS = ("get", "put", "post", "delete", "patch")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)\Z")


@dataclass(frozen=True)
class Parameter:
    """A query parameter or header: its validator and its default."""

    name: str
    integer: bool
    default: Any
    keeps: Callable[[Any], bool]

    def read(self, text: str) -> Any:
        """The value. Raises Refused (400) when it breaks the document."""
        value: Any = int(text) if self.integer and len(text) < 20 and _INTEGER.match(text) else text
        if not self.keeps(value):
            raise Refused(400, "bad_parameter", f"{self.name} is not what the contract allows.", self.name)
        return value


@dataclass(frozen=True)
class Operation:
    """One operation of the document."""

    name: str
    query: dict[str, Parameter]
    headers: dict[str, Parameter]
    body: str | None  # the schema of the body

    def read_query(self, raw: bytes) -> dict[str, Any]:
        """The query's values, defaults filled in; parameters the document does not know
        are refused, for they are a mistake of the client. Raises Refused (400)."""
        values = {name: parameter.default for name, parameter in self.query.items()}
        if raw:
            for name, text in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
                if name not in self.query:
                    raise Refused(400, "bad_parameter", "The contract knows no such parameter.", name[:100])
                values[name] = self.query[name].read(text)
        return values

    def read_body(self, raw: bytes, content_type: bytes) -> Any:
        """The body. Raises Refused: 415 for another media type, 400 for no JSON, 422 for a broken schema."""
        if content_type.split(b";")[0].strip().lower() != b"application/json":
            raise Refused(415, "not_json", "The body must be application/json.")
        try:
            value = json.loads(raw, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Refused(400, "not_json", "The body is not JSON.") from None
        try:
            kept = contract.validator(self.body or "").is_valid(value)
        except ValueError:  # a lone surrogate, or nested beyond reason
            raise Refused(400, "not_json", "The body holds what no JSON text may.") from None
        if not kept:
            faults = contract.faults_of(self.body or "", value)
            details = {field: sentence[:200] for field, sentence in faults}
            raise Refused(422, "invalid", "The body breaks the contract.", details)
        return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@cache
def operations() -> dict[str, dict[str, Operation]]:
    """Operations by path template and upper-case method."""
    paths = contract.document()["paths"]
    return {
        template: {
            method.upper(): _operation(item[method], item.get("parameters", []))
            for method in METHODS
            if method in item
        }
        for template, item in paths.items()
    }


def match(path: str) -> tuple[str, str]:
    """The template a path (below the base) belongs to, and the id in it. Raises Refused (404)."""
    parts = path.split("/")
    if len(parts) == 2:
        template, key = path, ""
    elif len(parts) == 3:
        template, key = f"/{parts[1]}/{{id}}", parts[2]
    else:
        template, key = f"/{parts[1]}/{{id}}/" + "/".join(parts[3:]), parts[2]
    if template not in operations() or (len(parts) > 2 and not key):
        raise Refused(404, "not_found", "There is no such address.")
    return template, key


def _operation(described: dict[str, Any], shared: list[Any]) -> Operation:
    parameters = [_resolved(one) for one in (*shared, *described.get("parameters", []))]
    body = _resolved(described.get("requestBody", {})).get("content", {}).get("application/json", {})
    return Operation(
        name=described["operationId"],
        query={one["name"]: _parameter(one) for one in parameters if one["in"] == "query"},
        headers={one["name"].lower(): _parameter(one) for one in parameters if one["in"] == "header"},
        body=body["schema"]["$ref"].rsplit("/", 1)[1] if body else None,
    )


def _parameter(described: dict[str, Any]) -> Parameter:
    schema = described["schema"]
    return Parameter(
        name=described["name"],
        integer=schema.get("type") == "integer",
        default=schema.get("default"),
        keeps=jsonschema_rs.Draft202012Validator(
            {**schema, "components": contract.document()["components"]}, validate_formats=True
        ).is_valid,
    )


def _resolved(part: dict[str, Any]) -> dict[str, Any]:
    """The part a `$ref` points to."""
    while "$ref" in part:
        target: Any = contract.document()
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = target
    return part
