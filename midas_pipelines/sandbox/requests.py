"""Calls and answers: matches a request to an operation of the contract, and validates its parameters and body."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import jsonschema_rs
from starlette.types import Scope

from midas_pipelines.fourseller import contract
from midas_pipelines.sandbox.state import Json, Refused

METHODS = ("get", "put", "post", "delete", "patch")
Headers = Sequence[tuple[bytes, bytes]]
Answer = tuple[int, "bytes | Iterable[bytes]", Headers]
"""An answer as it leaves: status, the body whole or in parts of unknown number, headers."""
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True)
class Parameter:
    """A query parameter or header: its validator and its default."""

    name: str
    integer: bool
    default: Any
    keeps: Callable[[Any], bool]

    def read(self, text: str) -> Any:
        """The value. Raises Refused (400) when it breaks the document."""
        value: Any = int(text) if self.integer and _INTEGER.fullmatch(text) else text
        if not self.keeps(value):
            raise Refused(400, "bad_parameter", f"{self.name} is not what the contract allows.", self.name)
        return value


@dataclass(frozen=True)
class Operation:
    """One operation of the document."""

    name: str
    query: dict[str, Parameter]
    headers: dict[str, Parameter]
    body: str  # the schema of the body; empty where it has none


@dataclass
class HabitCall:
    """One call as the API understood it; `ask` habits may change it before it is carried out."""

    name: str  # operationId of the contract; empty for a webhook
    key: str = ""  # the id in the path
    query: Json = field(default_factory=dict)
    body: Any = None
    idempotency_key: str | None = None
    path: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)


@dataclass
class Reply:
    """An answer before it is written as bytes; `value` None has no body."""

    status: int
    value: Any = None
    headers: Headers = ()


class NoAnswer(Exception):
    """The connection is cut in place of an answer."""


def read_call(scope: Scope, headers: dict[bytes, bytes], raw: bytes) -> HabitCall:
    """The call, its query's defaults filled in. Raises Refused, also for a parameter that the document does not know, which
    is a mistake of the client."""
    operation, key = _find(scope["path"][len(contract.BASE_PATH) :], scope["method"])
    call = HabitCall(operation.name, key, path=scope["path"], headers=headers)
    call.query = {name: parameter.default for name, parameter in operation.query.items()}
    for name, text in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name not in operation.query:
            raise Refused(400, "bad_parameter", "The contract knows no such parameter.", name[:100])
        call.query[name] = operation.query[name].read(text)
    for name, header in operation.headers.items():
        if (given := headers.get(name.encode())) is not None:
            call.idempotency_key = header.read(given.decode("latin-1"))
    if operation.body:
        call.body = _read_body(operation.body, raw, headers.get(b"content-type", b""))
    return call


def _read_body(schema: str, raw: bytes, content_type: bytes) -> Any:
    if content_type.split(b";")[0].strip().lower() != b"application/json":
        raise Refused(415, "not_json", "The body must be application/json.")
    try:
        value = json.loads(raw, parse_constant=_no_constant)
        faults = contract.faults_of(schema, value)
    except (ValueError, RecursionError):  # also a lone surrogate, or nested beyond reason
        raise Refused(400, "not_json", "The body is not JSON.") from None
    if faults:
        details = {field: sentence[:200] for field, sentence in faults}
        raise Refused(422, "invalid", "The body breaks the contract.", details)
    return value


def _find(path: str, method: str) -> tuple[Operation, str]:
    """The operation for a path below the base, and the id in the path. Raises Refused (404, 405)."""
    _, collection, *rest = path.split("/")
    template = "/".join(["", collection, *(["{id}", *rest[1:]] if rest else [])])
    allowed = _operations().get(template)
    if allowed is None or (rest and not rest[0]):
        raise Refused(404, "not_found", "There is no such address.")
    if method not in allowed:
        refused = Refused(405, "method", "The address does not know this method.")
        refused.headers = [(b"allow", ", ".join(sorted(allowed)).encode())]
        raise refused
    return allowed[method], rest[0] if rest else ""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@cache
def _operations() -> dict[str, dict[str, Operation]]:
    return {
        template: {
            method.upper(): _operation(item[method], item.get("parameters", []))
            for method in METHODS
            if method in item
        }
        for template, item in contract.document()["paths"].items()
    }


def _operation(described: dict[str, Any], shared: list[Any]) -> Operation:
    parameters = [_resolved(one) for one in (*shared, *described.get("parameters", []))]
    body = _resolved(described.get("requestBody", {})).get("content", {}).get("application/json", {})
    return Operation(
        name=described["operationId"],
        query={one["name"]: _parameter(one) for one in parameters if one["in"] == "query"},
        headers={one["name"].lower(): _parameter(one) for one in parameters if one["in"] == "header"},
        body=body["schema"]["$ref"].rsplit("/", 1)[1] if body else "",
    )


def _parameter(described: dict[str, Any]) -> Parameter:
    schema = described["schema"]
    whole = {**schema, "components": contract.document()["components"]}
    keeps = jsonschema_rs.Draft202012Validator(whole, validate_formats=True).is_valid
    return Parameter(described["name"], schema.get("type") == "integer", schema.get("default"), keeps)


def _resolved(part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        target: Any = contract.document()
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = target
    return part
