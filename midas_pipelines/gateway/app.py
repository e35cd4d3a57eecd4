"""The gateway as one ASGI application: the API, the console, and what both show to everyone: the OpenAPI document, in which
every error that an endpoint can answer is problem details, the same as a page, and the files that pages use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from midas_pipelines.errors import CallRefused, ExpectedError
from midas_pipelines.gateway.api import orders as order_api
from midas_pipelines.gateway.api import privacy, problems, readings, status, sync
from midas_pipelines.gateway.api.auth import CHANGES, PERSONS, PREFIX, GuardedRoute, role_for
from midas_pipelines.gateway.api.callers import Callers, Refusals
from midas_pipelines.gateway.api.limits import Limits
from midas_pipelines.gateway.api.problems import MEDIA_TYPE, Problem
from midas_pipelines.gateway.console import decide, items, machine_room, orders, plan, sign_in, today
from midas_pipelines.gateway.console.web import STATIC, render
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
    ("GET", f"{PREFIX}/explain"): {404: "No item has the SKU."},
    ("POST", f"{PREFIX}/conflicts/{{conflict_id}}"): {409: "No such conflict is open."},
    ("POST", f"{PREFIX}/orders"): {409: "The access to 4Seller is not set."},
    ("POST", f"{PREFIX}/sync/{{kind}}"): {404: "No item has the SKU.", 409: "A setting is missing."},
}
BEARER = {"type": "http", "scheme": "bearer", "description": "A key made by `midas keys create`."}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Calls with the same key and body are executed once and answered alike, for 24 hours; another body is 422.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}
ENDPOINTS = (status, readings, sync, order_api, privacy)
PAGES = (decide, items, machine_room, orders, plan, sign_in, today)

router = APIRouter(include_in_schema=False)
hooks = APIRouter(prefix=PREFIX, route_class=GuardedRoute, tags=["webhooks"])


class Accepted(BaseModel):
    """The webhook is on disk."""

    id: str
    new: bool = Field(
        description="Whether this id was seen for the first time; a known one has no second effect."
    )


class Sent(BaseModel):
    """An event as 4Seller sends it."""

    type: str = Field(min_length=1, description="`order.created`, `inventory.updated`, ...")
    timestamp: str | None = None
    data: dict[str, object] = Field(description="The whole order or product.")


@hooks.post(
    "/webhooks",
    summary="Take an event of 4Seller's",
    status_code=202,
    response_model=Accepted,
    responses={200: {"model": Accepted, "description": "Known already; nothing more will happen."}},
)
async def take_webhook(
    body: Sent,
    webhook_id: Annotated[str | None, Header(description="Unique for each event.")] = None,
    webhook_timestamp: Annotated[str | None, Header(description="Seconds since 1970.")] = None,
    webhook_signature: Annotated[
        str | None, Header(description="`v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`.")
    ] = None,
) -> None:
    """Standard Webhooks: signed over the raw body, at most five minutes old.

    Answered 202 once it is stored, 200 when its id was stored before. Whether it could be applied is seen in
    `midas webhooks list`, not here.
    """
    # `Limits` answers every call.


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
    app.state.live = today.Live(service)
    callers = app.state.callers = Callers(service.settings.gateway_rate)
    refusals = app.state.refusals = Refusals(service.write)
    for part in (hooks, *(module.router for module in (*ENDPOINTS, *PAGES)), sign_in.outside, router):
        app.router.routes.extend(part.routes)  # `include_router` would build each of them again for this app
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    for kind in (ExpectedError, RequestValidationError, *problems.NO_DATABASE, Exception):
        app.add_exception_handler(kind, problems.answer_error)
    app.add_exception_handler(HTTPException, _missing)
    app.add_middleware(Limits, service=service, callers=callers, refusals=refusals)
    return app


async def _missing(request: Request, error: Exception) -> Response:
    """A page for a browser that asks for one which is not there, else a problem."""
    wants_a_page = "text/html" in request.headers.get("accept", "")
    if not wants_a_page or request.url.path.startswith(PREFIX):
        return await problems.answer_error(request, error)
    status = problems.status_of(error)
    return render(
        request, "problem.html", status, status_code=status, text="There is no page at this address."
    )


@router.get("/static/{name}")
def static(name: str) -> Response:
    """A file that pages use; a browser keeps it, for its address changes with it."""
    path = STATIC.get(name)
    if path is None:
        raise CallRefused(404, "There is no such file.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, headers=headers)


@router.get("/docs")
def reference(request: Request) -> Response:
    """Every endpoint, its parameters, its body and its answers."""
    return render(request, "reference.html", document=request.app.openapi())


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document of the app, made once."""
    if app.openapi_schema is None:
        about: dict[str, Any] = {"title": app.title, "version": app.version, "description": app.description}
        document = get_openapi(**about, routes=app.routes)
        document["components"]["securitySchemes"] = {"HTTPBearer": BEARER}
        schemas = document["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        for gone in ("HTTPValidationError", "ValidationError"):
            schemas.pop(gone, None)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _complete(method.upper(), path, operation)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(method: str, path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    is_checked = responses.pop("422", None) is not None
    found = dict(ANY) | OWN.get((method, path), {})
    if role_for(method, path) is not None:
        found |= GUARDED
        operation["security"] = [{"HTTPBearer": []}]
    if method in ("POST", "PATCH") and path != PERSONS and not path.endswith("/webhooks"):
        operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
        found[409] = found.get(409, "The first call with this Idempotency-Key has no answer yet.")
    if (is_checked or method in CHANGES) and not path.endswith("/webhooks"):
        found[422] = "The request is not as described."
        if method in CHANGES:
            found.setdefault(400, "The body cannot be read.")
    for code, description in sorted(found.items()):
        schema = {"$ref": "#/components/schemas/Problem"}
        responses[str(code)] = {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
