"""The OpenAPI document: every error that an endpoint can answer is in it, as problem details."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from midas_pipelines.gateway.api.auth import CHANGES, PERSONS, PREFIX, ROLES
from midas_pipelines.gateway.api.problems import MEDIA_TYPE, Problem
from midas_pipelines.gateway.api.webhooks import Sent

ANY = {
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    429: "Too many calls; wait as long as Retry-After says.",
    500: "Internal error.",
    503: "The database, 4Seller or Dagster does not answer; try again after Retry-After.",
}
GUARDED = {401: "No valid key.", 403: "The key's role does not allow it."}
OWN: dict[tuple[str, str], dict[int, str]] = {
    ("POST", f"{PREFIX}/webhooks"): {
        400: "Signed, but no event.",
        401: "Not signed by 4Seller, or more than five minutes old.",
    },
    ("GET", f"{PREFIX}/orders/{{order_id}}"): {404: "No such order."},
    ("PATCH", f"{PREFIX}/orders/{{order_id}}"): {
        404: "No such order.",
        409: "The status transition is not allowed.",
    },
    ("POST", PERSONS): {
        409: "Nothing is left to compare, such as a phone without digits, or a payload key is missing."
    },
    ("GET", f"{PREFIX}/explain"): {409: "No item has the SKU."},
    ("POST", f"{PREFIX}/conflicts/{{conflict_id}}"): {409: "No such conflict is open."},
    ("POST", f"{PREFIX}/orders"): {409: "The access to 4Seller is not set."},
    ("POST", f"{PREFIX}/sync/products"): {404: "No item has the SKU.", 409: "A setting is missing."},
    ("POST", f"{PREFIX}/sync/inventory"): {404: "No item has the SKU.", 409: "A setting is missing."},
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Calls with the same key and body are executed once and answered alike, for 24 hours; another body is 422.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document of the app, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        template = "#/components/schemas/{model}"
        schemas["Problem"] = Problem.model_json_schema(ref_template=template)
        schemas["Sent"] = Sent.model_json_schema(ref_template=template)
        for gone in ("HTTPValidationError", "ValidationError"):
            schemas.pop(gone, None)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _complete(method.upper(), path, operation)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(method: str, path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    is_checked = responses.pop("422", None) is not None and not path.endswith("/webhooks")
    found = dict(ANY) | OWN.get((method, path), {})
    operation.pop("security", None)
    if ROLES[method, path] is not None:
        found |= GUARDED
        operation["security"] = [{"HTTPBearer": []}]
    if method in ("POST", "PATCH") and path != PERSONS and not path.endswith("/webhooks"):
        operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
        found[409] = found.get(409, "The first call with this Idempotency-Key has no answer yet.")
    if is_checked or (method in CHANGES and not path.endswith("/webhooks")):
        found[422] = "The request is not as described."
        if method in CHANGES:
            found[400] = "The body cannot be read."
    for status, description in sorted(found.items()):
        schema = {"$ref": "#/components/schemas/Problem"}
        responses[str(status)] = {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
