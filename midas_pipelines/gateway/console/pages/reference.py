"""The description of the API, readable without JavaScript and without another site, and the files that pages need."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.console.web import HERE, render

router = APIRouter(include_in_schema=False)

STATIC = {path.name: path for path in (HERE / "static").iterdir()}
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".LICENSE": "text/plain"}


@router.get("/docs")
def reference(request: Request) -> Response:
    """Every endpoint, its parameters, its body and its answers."""
    document = request.app.openapi()
    schemas = document["components"]["schemas"]
    calls = [
        {
            "method": method.upper(),
            "path": path,
            "parameters": operation.get("parameters", []),
            "body": _schema(operation.get("requestBody")),
            "answers": [
                (status, said["description"], _schema(said))
                for status, said in operation["responses"].items()
            ],
            **{name: operation.get(name, "") for name in ("summary", "description", "security")},
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    shown = {name: schema for name, schema in schemas.items() if name != "Problem"}
    return render(request, "reference.html", calls=calls, schemas=shown, info=document["info"], kind=_kind)


@router.get("/static/{name}")
def static(name: str) -> Response:
    """A file that pages use; a browser keeps it, for its address changes with it."""
    path = STATIC.get(name)
    if path is None:
        raise CallRefused(404, "There is no such file.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, headers=headers, media_type=TYPES[path.suffix])


def _schema(part: dict[str, Any] | None) -> str:
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
