"""The page at /: products, orders and the last calls, as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from midas_pipelines.sandbox.app import Sandbox


def page_routes(sandbox: Sandbox) -> list[Route]:
    """The routes of the page."""

    async def show(_: Request) -> HTMLResponse:
        return HTMLResponse("<!doctype html><title>sandbox</title>")

    return [Route("/", show)]
