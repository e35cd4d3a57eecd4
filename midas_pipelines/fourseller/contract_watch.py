"""Compares what 4Seller answers with the contract, in production too: a sample of the bodies, and odd statuses.

What was found becomes a proposed change of the contract's document, an OpenAPI Overlay 1.0.
Nothing personal is kept: of an order's values only what kind they are; of a product's at most their first characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from midas_pipelines.fourseller.contract import PAGE_LIMIT, document, validator
from midas_pipelines.fourseller.http.answers import Answer, Call, read_json
from midas_pipelines.fourseller.status import read_status

LOOKED_AT = 5
"""Rows of a page that are looked at field by field; the whole page is validated."""

MOST_FINDINGS = 500
KNOWN_STATUSES = frozenset({403, 408})
"""Statuses that the client knows beside those of the document."""

FIELD_NAME = re.compile(r"[A-Za-z0-9_.$-]{1,60}")
Place = tuple[str, str, str]
"""Kind, call and place of a finding."""


@dataclass
class ContractFinding:
    """One way in which 4Seller's answers differ from the contract.

    `kind` is field (unknown), missing, type, word (unknown), status, paging or slower.
    """

    kind: str
    call: str
    place: str
    what: str
    example: str = ""
    times: int = 1


@dataclass
class ContractWatch:
    """Compares answers with the contract, and keeps what differs until it is taken."""

    findings: dict[Place, ContractFinding] = field(default_factory=dict)

    def compare(self, call: Call, answer: Answer) -> None:
        """Takes an answer; never raises for what is in it."""
        operation = document()["paths"][call.template][call.method.lower()]["responses"]
        described = operation.get(str(answer.status))
        if described is None and answer.status < 500 and answer.status not in KNOWN_STATUSES:
            what = f"It answers {answer.status}, which the contract does not name."
            self._add("status", call, str(answer.status), what)
        if not 200 <= answer.status < 300 or not answer.body:
            return
        try:
            body = read_json(answer.body)
        except ValueError:
            self._add("type", call, "(body)", "It is not JSON.")
            return
        content = (described or operation.get("200") or {}).get("content", {}).get("application/json", {})
        if not content:
            return
        schema = str(content["schema"]["$ref"]).rsplit("/", 1)[1]
        personal = call.template.startswith("/orders")
        for kind, place, what, value in chain(_faults(schema, body), _fields(content["schema"], body, "")):
            self._add(kind, call, place, what, "" if kind == "missing" else _example(value, personal))
        is_page = schema.endswith("Page") and isinstance(body, dict)
        if schema in ("Order", "OrderPage"):
            for row in (body.get("data") or ()) if is_page else [body]:
                word = row.get("status") if isinstance(row, dict) else None
                if isinstance(word, str) and word and not read_status(word).known:
                    what = "An order's status has a word that is not known; the alert on the order quotes it."
                    self._add("word", call, "status", what, f"{len(word)} characters")
        for what in _paging(dict(call.query), body) if is_page else ():
            self._add("paging", call, what.split(" ")[0], what)

    def take(self) -> list[ContractFinding]:
        """The findings since the last time."""
        found, self.findings = list(self.findings.values()), {}
        return found

    def _add(self, kind: str, call: Call, place: str, what: str, example: str = "") -> None:
        key = (kind, call.endpoint, place)
        if key in self.findings:
            self.findings[key].times += 1
        elif len(self.findings) < MOST_FINDINGS:
            self.findings[key] = ContractFinding(kind, call.endpoint, place, what, example)


Found = tuple[str, str, str, Any]
"""Kind, place, sentence and value."""


def _faults(schema: str, body: Any) -> Iterator[Found]:
    """What the schema does not allow."""
    for error in validator(schema).iter_errors(body):
        path = (("[]" if isinstance(part, int) else f".{part}") for part in error.instance_path)
        place = "".join(path).lstrip(".") or "(body)"
        if error.message.endswith("is a required property"):
            name = error.message.split(" ")[0].strip('"')
            yield "missing", f"{place}.{name}", "It is missing.", None
        else:
            what = f"The contract allows no such value there: {type_of(error.instance)}."
            yield "type", place, what, error.instance


def _fields(schema: dict[str, Any], value: Any, place: str) -> Iterator[Found]:
    """Fields that the contract does not know, and those that it expects and that are not there."""
    while (inner := schema.get("anyOf", [None])[0]) or "$ref" in schema:
        schema = inner or document()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if isinstance(value, list):
        for row in value[:LOOKED_AT]:
            yield from _fields(schema.get("items", {}), row, f"{place}[]")
    known = schema.get("properties")
    if not isinstance(value, dict) or known is None:
        return
    for name, inner in value.items():
        where = f"{place}.{name}".lstrip(".") if FIELD_NAME.fullmatch(name) else f"{place}.(a name)"
        if name in known:
            yield from _fields(known[name], inner, where)
        else:
            yield "field", where, f"The contract does not know this field: {type_of(inner)}.", inner
    for name in schema.get("x-expected", ()):
        if value.get(name) is None:
            where = f"{place}.{name}".lstrip(".")
            yield "missing", where, "It is missing or null, and the sync reads it.", None


def _paging(query: dict[str, str], body: dict[str, Any]) -> Iterator[str]:
    """What a page says of itself that is not so."""
    rows = len(body["data"]) if isinstance(body.get("data"), list) else 0
    limit, offset = int(query.get("limit", PAGE_LIMIT)), int(query.get("offset", 0))
    total = body.get("total")
    if rows > limit:
        yield "data has more rows than were asked for."
    if isinstance(total, int):
        if total < offset + rows:
            yield "total is less than the rows that there are."
        elif rows < limit and offset + rows < total:
            yield "data ends early: it has fewer rows than were asked for, and the total says that there are more."
    if body.get("offset") not in (None, offset):
        yield "offset is not the one that was asked for."


def type_of(value: Any) -> str:
    """The type of a value in JSON Schema's words, which give nothing of it away."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _example(value: Any, personal: bool) -> str:
    return type_of(value) if personal or isinstance(value, dict | list) else str(value)[:60]


SCHEMAS = {"/products/{id}/inventory": "InventoryLevel", "/products": "Product", "/orders": "Order"}
"""Of the calls whose address begins so."""


def overlay(findings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The overlay: an action for each unknown field, changed type and status; the rest as remarks for a person."""
    actions: list[dict[str, Any]] = []
    remarks: list[str] = []
    for one in findings:
        action = _action(one)
        if action is None:
            remarks.append(f"{one['call']} {one['place']}: {one['what']}")
        elif action not in actions:
            actions.append(action)
    return {
        "overlay": "1.0.0",
        "info": {"title": "What 4Seller answered otherwise", "version": "0"},
        "actions": actions,
        "x-remarks": remarks,
    }


def _action(one: Mapping[str, Any]) -> dict[str, Any] | None:
    method, _, template = str(one["call"]).partition(" ")
    if one["kind"] == "status":
        target = f"$.paths['{template}'].{method.lower()}.responses"
        return {"target": target, "update": {one["place"]: {"description": "As seen; say what it means."}}}
    if one["kind"] not in ("field", "type"):
        return None
    path = str(one["place"]).replace("data[]", "").replace("[]", ".items").strip(".").split(".")
    schema = next((name for begin, name in SCHEMAS.items() if template.startswith(begin)), None)
    if schema is None or path == [""] or path == ["(body)"]:
        return None
    inner = ".properties.".join(path).replace("properties.items.", "items.")
    target = f"$.components.schemas.{schema}.properties.{inner}"
    kind = str(one["what"]).rpartition(" ")[2].rstrip(".")  # both sentences end with the type
    if one["kind"] == "field":
        parent, _, name = target.rpartition(".")
        return {"target": parent, "update": {name: {"type": list(dict.fromkeys([kind, "null"]))}}}
    return {"target": target, "description": one["what"], "update": {"x-also": kind}}
