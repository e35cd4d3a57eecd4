"""Errors as problem details (RFC 9457): what happened, and what to do, never a secret or a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from midas_pipelines.errors import ExpectedError
from midas_pipelines.storefront.writing import Cause, blame

MEDIA_TYPE = "application/problem+json"
MOST_SHOWN = 10
NO_DATABASE = (sa.exc.DBAPIError, sa.exc.TimeoutError)

log = logging.getLogger(__name__)


class Problem(BaseModel):
    """An error's body."""

    type: str = Field("about:blank", description="`about:blank`: the status says all that a program needs.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What happened, to what, and what to do.")
    request_id: str | None = Field(None, description="Name it when you ask for help.")
    errors: list[dict[str, str]] = Field(default=[], description="Where a request was wrong, field by field.")


def problem(
    status: int, detail: str, request_id: str | None, headers: Mapping[str, str], errors: Sequence[Any] = ()
) -> Response:
    """An error as a response."""
    title = HTTPStatus(status).phrase
    body = Problem(title=title, status=status, detail=detail, request_id=request_id, errors=[*errors])
    content = json.dumps(body.model_dump(exclude_none=True), ensure_ascii=True)
    return Response(content, status, headers=dict(headers), media_type=MEDIA_TYPE)


def status_of(error: Exception) -> int:
    """The status that `answer_error` answers for this exception."""
    match error:
        case ExpectedError():
            return error.http_status
        case HTTPException():
            return error.status_code
        case RequestValidationError():
            return 422
    return 503 if isinstance(error, NO_DATABASE) else 500


def no_database(error: Exception) -> str:
    """What one of `NO_DATABASE` means for the caller."""
    if isinstance(error, sa.exc.DBAPIError) and blame(error) is Cause.BUSY:
        return "Another session holds rows that this call needs, the shop's own perhaps. Nothing was changed; try again shortly."
    return "The database does not answer; try again shortly."


async def answer_error(request: Request, error: Exception) -> Response:
    """The problem that an error is answered with."""
    status, headers, errors = status_of(error), dict[str, str](), list[dict[str, str]]()
    match error:
        case ExpectedError():
            detail, headers = str(error), error.headers
        case HTTPException():
            known = {404: "There is nothing at this address; see /docs."}
            known[405] = "This address does not know that method; see /docs."
            detail, headers = known.get(status, str(error.detail)), dict(error.headers or {})
        case RequestValidationError():
            detail = "The request is not as /docs describes it: see `errors`."
            errors = [
                {"where": ".".join(str(part) for part in item["loc"])[:200], "what": str(item["msg"])[:300]}
                for item in error.errors()[:MOST_SHOWN]
            ]
        case _ if status == 503:
            log.warning("The database failed a call: %s", type(getattr(error, "orig", error)).__name__)
            detail, headers = no_database(error), {"Retry-After": "5"}
        case _:  # the server logs the error and closes the connection: the caller should know
            detail, headers = "Internal error; see the gateway's log.", {"Connection": "close"}
    return problem(status, detail, getattr(request.state, "request_id", None), headers, errors)
