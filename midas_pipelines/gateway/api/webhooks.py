"""`POST /api/marketplace/webhooks` as the API describes it; `limits.py` verifies, stores and answers what 4Seller signed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field

from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute

router = APIRouter(prefix=PREFIX, route_class=GuardedRoute, tags=["webhooks"])


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


@router.post(
    "/webhooks",
    summary="Take an event of 4Seller's",
    status_code=202,
    response_model=Accepted,
    responses={200: {"model": Accepted, "description": "Known already; nothing more will happen."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Sent"}}},
        }
    },
)
async def take_webhook(
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
    text = "No webhook can be verified here: FOURSELLER_WEBHOOK_SECRET is not set."
    raise CallRefused(401, text, {"WWW-Authenticate": "Webhook"})
