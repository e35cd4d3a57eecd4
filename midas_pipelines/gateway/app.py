"""The gateway as one ASGI application, and the OpenAPI document of its endpoints: every error that one can answer is in it,
as problem details."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from midas_pipelines.gateway.api import orders, privacy, problems, readings, sync, webhooks
from midas_pipelines.gateway.api.auth import CHANGES, PERSONS, PREFIX, ROLES
from midas_pipelines.gateway.api.callers import Callers, Refusals
from midas_pipelines.gateway.api.limits import Limits
from midas_pipelines.gateway.api.problems import MEDIA_TYPE, Problem
from midas_pipelines.gateway.api.webhooks import Sent
from midas_pipelines.gateway.console.app import add_console
from midas_pipelines.gateway.service import Service

DESCRIPTION = """
What the shop's own code and 4Seller call. Keys come from `midas keys create`; each endpoint says which role it needs.
Errors are problem details (RFC 9457); every answer has an `X-Request-ID`.
"""


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
BEARER = {"type": "http", "scheme": "bearer", "description": "A key made by `midas keys create`."}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Calls with the same key and body are executed once and answered alike, for 24 hours; another body is 422.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}


def create_app(service: Service) -> FastAPI:
    """The application over a service, which it starts and stops with itself."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="midas gateway",
        version=version("midas-pipelines"),
        description=DESCRIPTION.strip(),
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # the console has a page of its own, which needs no other site
        redoc_url=None,
    )
    app.state.service = service
    callers = app.state.callers = Callers(service.settings.gateway_rate)
    refusals = app.state.refusals = Refusals(service.database)
    for part in (webhooks, readings, sync, orders, privacy):
        app.include_router(part.router)
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    problems.install_problem_handlers(app)
    add_console(app, service)
    app.add_middleware(Limits, service=service, callers=callers, refusals=refusals)
    return app


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document of the app, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        document["components"]["securitySchemes"] = {"HTTPBearer": BEARER}
        schemas = document["components"]["schemas"]
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
