"""The gateway as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI

from midas_pipelines.gateway.api import console, orders, privacy, problems, sync, webhooks
from midas_pipelines.gateway.api import status as status_api
from midas_pipelines.gateway.api.auth import bearer
from midas_pipelines.gateway.api.callers import Callers, Refusals
from midas_pipelines.gateway.api.limits import Limits
from midas_pipelines.gateway.api.openapi import openapi_document
from midas_pipelines.gateway.console.app import add_console
from midas_pipelines.gateway.service import Service

DESCRIPTION = """
What the shop's own code and 4Seller call. Keys come from `midas keys create`; each endpoint says which role it needs.
Errors are problem details (RFC 9457); every answer has an `X-Request-ID`.
"""

LARGEST_BODY = 1_000_000
"""Bytes; a larger body is answered 413."""
SHED_SECONDS = 5.0
"""While a webhook waits longer to be stored, calls are answered 503."""


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
    app.state.callers = Callers(service.settings.gateway_rate)
    app.state.refusals = Refusals(service.database)
    app.include_router(webhooks.router)
    app.include_router(status_api.router, dependencies=[Depends(bearer)])
    app.include_router(sync.router, dependencies=[Depends(bearer)])
    app.include_router(orders.router, dependencies=[Depends(bearer)])
    app.include_router(privacy.router, dependencies=[Depends(bearer)])
    app.include_router(console.router, dependencies=[Depends(bearer)])
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    problems.install_problem_handlers(app)
    add_console(app, service)

    def count(method: str, route: str, status: int, seconds: float) -> None:
        service.metrics.calls.labels(method, route, str(status)).inc()
        service.metrics.call_seconds.labels(method, route).observe(seconds)

    app.add_middleware(
        Limits,
        callers=app.state.callers,
        verifier=service.verifier,
        largest_body=LARGEST_BODY,
        longest_wait=SHED_SECONDS,
        count=count,
        count_refused=lambda reason: service.metrics.refused.labels(reason).inc(),
        refusals=app.state.refusals,
    )
    return app
