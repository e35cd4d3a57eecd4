"""The console as a part of the gateway's application, and what it shows to everyone: the API's description, its files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.api.auth import PREFIX
from midas_pipelines.gateway.console import decide, items, machine_room, orders, plan, sign_in, today
from midas_pipelines.gateway.console.web import STATIC, render
from midas_pipelines.gateway.service import Service

router = APIRouter(include_in_schema=False)

PARTS = (decide, items, machine_room, orders, plan, sign_in, today)
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".LICENSE": "text/plain"}


def add_console(app: FastAPI, service: Service) -> None:
    """Adds every page to the application."""
    app.state.live = today.Live(service)
    app.include_router(sign_in.outside)
    for part in PARTS:
        app.include_router(part.router)
    app.include_router(router)
    for_programs = cast("Callable[..., Awaitable[Response]]", app.exception_handlers[HTTPException])

    async def missing(request: Request, error: Exception) -> Response:
        wants_a_page = "text/html" in request.headers.get("accept", "")
        if not wants_a_page or request.url.path.startswith(PREFIX):
            return await for_programs(request, error)
        status = error.status_code if isinstance(error, HTTPException) else 500
        return render(
            request, "problem.html", status, status_code=status, text="There is no page at this address."
        )

    app.add_exception_handler(HTTPException, missing)


@router.get("/static/{name}")
def static(name: str) -> Response:
    """A file that pages use; a browser keeps it, for its address changes with it."""
    path = STATIC.get(name)
    if path is None:
        raise CallRefused(404, "There is no such file.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, headers=headers, media_type=TYPES[path.suffix])


@router.get("/docs")
def reference(request: Request) -> Response:
    """Every endpoint, its parameters, its body and its answers."""
    document = request.app.openapi()
    calls = [
        {
            "method": method.upper(),
            "path": path,
            "parameters": operation.get("parameters", []),
            "body": _model(operation.get("requestBody")),
            "answers": [
                (status, said["description"], _model(said)) for status, said in operation["responses"].items()
            ],
            **{name: operation.get(name, "") for name in ("summary", "description", "security")},
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    shown = {name: schema for name, schema in document["components"]["schemas"].items() if name != "Problem"}
    return render(request, "reference.html", calls=calls, schemas=shown, info=document["info"], kind=_kind)


def _model(part: dict[str, Any] | None) -> str:
    """The name of the model of a body or an answer."""
    for media in ((part or {}).get("content") or {}).values():
        return _kind(media.get("schema") or {})
    return ""


def _kind(schema: dict[str, Any]) -> str:
    """A schema in words: a model's name, or a type with its bounds."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for many in ("anyOf", "oneOf", "allOf"):
        if many in schema:
            return " or ".join(dict.fromkeys(filter(None, (_kind(one) for one in schema[many]))))
    if "enum" in schema or "const" in schema:
        return " | ".join(str(one) for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items') or {}) or 'anything'}"
    return str(schema.get("format") or schema.get("type") or "")
