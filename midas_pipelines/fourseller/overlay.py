"""Proposes how the contract's document would change by what was found, as an OpenAPI Overlay 1.0. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TYPES = {"a number": "number", "true or false": "boolean", "an object": "object", "null": "null"}
SCHEMAS = {"/products": "Product", "/orders": "Order"}


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
    if template.endswith("/inventory"):
        schema = "InventoryLevel"
    if schema is None or path == [""] or path == ["(body)"]:
        return None
    inner = ".properties.".join(path).replace("properties.items.", "items.")
    target = f"$.components.schemas.{schema}.properties.{inner}"
    seen = str(one["what"]).removeprefix("The contract does not know this field: ").removeprefix("It is ")
    kind = next((kind for words, kind in TYPES.items() if seen.startswith(words)), None)
    kind = kind or ("array" if seen.startswith("a list") else "string")
    if one["kind"] == "field":
        parent, _, name = target.rpartition(".")
        return {"target": parent, "update": {name: {"type": [kind, "null"] if kind != "null" else ["null"]}}}
    return {"target": target, "description": one["what"], "update": {"x-also": kind}}
