"""`/api/marketplace/privacy/requests`: what a person asks for, such as a marketplace's notice that an account was deleted."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute
from midas_pipelines.gateway.api.readings import Limit, Rows
from midas_pipelines.gateway.service import service_of
from midas_pipelines.sync.privacy.requests import PrivacyAnswer, Subject, answer_request, list_requests

router = APIRouter(prefix=PREFIX, route_class=GuardedRoute, tags=["privacy"])

SUBJECTS = ("email", "phone", "name", "account", "order")
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
Words = Annotated[SecretStr, Field(min_length=1, max_length=300, json_schema_extra={"pattern": PRINTABLE})]


class AskedPrivacy(BaseModel):
    """One request about one person, who is named in exactly one way. What names the person is neither logged nor kept."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "oneOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in SUBJECTS]
        },
    )

    kind: Literal["find", "export", "erase"]
    email: Words | None = None
    phone: Words | None = None
    name: Words | None = None
    account: Words | None = Field(None, description="A user name or user id at the marketplace.")
    order: Words | None = Field(None, description="Its id, its number, or the shop's own id.")

    @model_validator(mode="after")
    def _one(self) -> AskedPrivacy:
        if sum(getattr(self, name) is not None for name in SUBJECTS) != 1:
            raise ValueError(f"give exactly one of {', '.join(SUBJECTS)}")
        if not re.fullmatch(PRINTABLE, self.subject.text):
            raise ValueError("what names the person has characters that no name has")
        return self

    @property
    def subject(self) -> Subject:
        """The person."""
        kind = next(name for name in SUBJECTS if getattr(self, name) is not None)
        return Subject(kind, getattr(self, kind).get_secret_value())


@router.post("/privacy/requests", summary="Find, export or erase a person", response_model=PrivacyAnswer)
def post_privacy_request(request: Request, body: AskedPrivacy) -> PrivacyAnswer:
    """Records the request with its 30 days, and does it at once. Sent again, it goes on where it was cut short."""
    context = service_of(request).sync_context(request.state.request_id)
    return answer_request(context, body.kind, body.subject, "a call of the gateway")


@router.get("/privacy/requests", summary="List requests of persons", response_model=Rows)
def get_privacy_requests(request: Request, limit: Limit = 50) -> dict[str, Any]:
    """The newest first, each with its clock, its proof, and what was sent to whom; a person is named by a keyed digest."""
    return {"data": service_of(request).read(list_requests, limit=limit)}
