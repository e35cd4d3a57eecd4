"""Errors as problem details (RFC 9457): what happened, and what to do, never a secret or a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from midas_pipelines.fourseller.errors import FourSellerError
from midas_pipelines.settings import SettingsError
from midas_pipelines.sync.context import ChannelDown
from midas_pipelines.sync.listings.brake import BrakeEngaged
from midas_pipelines.sync.orders.intake.refusals import Cause, blame

MEDIA_TYPE = "application/problem+json"
MOST_SHOWN = 10

BUSY = "Another session holds rows that this call needs, the shop's own perhaps. Nothing was changed; try again shortly."

log = logging.getLogger(__name__)


class Problem(BaseModel):
    """An error's body."""

    type: str = Field("about:blank", description="`about:blank`: the status says all that a program needs.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What happened, to what, and what to do.")
    request_id: str | None = Field(None, description="Name it when you ask for help.")
    errors: list[dict[str, str]] = Field(default=[], description="Where a request was wrong, field by field.")


class CallRefused(Exception):
    """Ends a call with a status and a sentence."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem(
    status: int,
    detail: str,
    request_id: str | None = None,
    *,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error as a response."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=request_id,
        errors=errors or [],
    )
    content = json.dumps(body.model_dump(exclude_none=True), ensure_ascii=True)
    return Response(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install_problem_handlers(app: FastAPI) -> None:
    """Answers every exception with a problem."""
    app.add_exception_handler(CallRefused, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(SettingsError, _needs_a_person)
    app.add_exception_handler(FourSellerError, _channel)
    app.add_exception_handler(ChannelDown, _channel)
    app.add_exception_handler(BrakeEngaged, _needs_a_person)
    app.add_exception_handler(sa.exc.DBAPIError, _database)
    app.add_exception_handler(sa.exc.TimeoutError, _database)
    app.add_exception_handler(Exception, _unexpected)


def status_of(error: Exception) -> int:
    """The status that `install_problem_handlers` answers for this exception, for the audit log."""
    match error:
        case CallRefused():
            return error.status
        case HTTPException():
            return error.status_code
        case RequestValidationError():
            return 422
        case SettingsError() | BrakeEngaged():
            return 409
        case FourSellerError() | ChannelDown() | sa.exc.DBAPIError() | sa.exc.TimeoutError():
            return 503
        case _:
            return 500


def _id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


async def _refused(request: Request, error: Any) -> Response:
    return problem(status_of(error), error.detail, _id(request), headers=error.headers)


async def _http(request: Request, error: Any) -> Response:
    detail = {
        404: "There is nothing at this address; see /docs.",
        405: "This address does not know that method; see /docs.",
    }.get(error.status_code, str(error.detail))
    return problem(status_of(error), detail, _id(request), headers=error.headers)


async def _invalid(request: Request, error: Any) -> Response:
    found = [
        {"where": ".".join(str(part) for part in item["loc"])[:200], "what": str(item["msg"])[:300]}
        for item in error.errors()[:MOST_SHOWN]
    ]
    detail = "The request is not as /docs describes it: see `errors`."
    return problem(status_of(error), detail, _id(request), errors=found)


async def _needs_a_person(request: Request, error: Any) -> Response:
    return problem(status_of(error), str(error), _id(request))


async def _channel(request: Request, error: Any) -> Response:
    return problem(status_of(error), str(error), _id(request), headers={"Retry-After": "30"})


async def _database(request: Request, error: Any) -> Response:
    log.warning("The database failed a call: %s", type(getattr(error, "orig", error)).__name__)
    busy = isinstance(error, sa.exc.DBAPIError) and blame(error) is Cause.BUSY
    return problem(
        status_of(error),
        BUSY if busy else "The database does not answer; try again shortly.",
        _id(request),
        headers={"Retry-After": "5"},
    )


async def _unexpected(request: Request, error: Any) -> Response:
    # The server logs the error and closes the connection: the caller should know.
    text = "Internal error; see the gateway's log."
    return problem(status_of(error), text, _id(request), headers={"Connection": "close"})
