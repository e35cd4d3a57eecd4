"""The OpenAPI document of the 4Seller API, and validators made from it."""

from functools import cache
from importlib import resources
from typing import Any

import jsonschema_rs
import yaml

BASE_PATH = "/v1"
PAGE_LIMIT = 100  # the most rows the contract lets one page hold
DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document as plain dictionaries; read once, not to be changed by the caller."""
    text = resources.files(__package__).joinpath("openapi.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loaded: dict[str, Any] = yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
    return loaded


@cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """A compiled validator of one schema of the document, e.g. `ProductDraft`; formats are checked."""
    wrapped = {
        "$schema": DIALECT,
        "$ref": f"#/components/schemas/{schema}",
        "components": document()["components"],
    }
    return jsonschema_rs.Draft202012Validator(wrapped, validate_formats=True)


def faults_of(schema: str, instance: object) -> list[tuple[str, str]]:
    """The violations of a schema by `instance`: pairs of (field path, sentence); empty when it is valid."""
    found = []
    for error in validator(schema).iter_errors(instance):
        field = ".".join(str(part) for part in error.instance_path) or "(body)"
        found.append((field, error.message))
    return found


@cache
def next_statuses() -> dict[str, frozenset[str]]:
    """The allowed status transitions, by current status; staying at a status is no transition."""
    table = document()["components"]["schemas"]["OrderStatus"]["x-next"]
    return {status: frozenset(following) for status, following in table.items()}
