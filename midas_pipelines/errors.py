"""The root of the errors that a person can act on, and how each edge answers them."""

from __future__ import annotations


class ExpectedError(Exception):
    """Its text is a sentence for a person, without a secret or personal data: what happened, to what, what to do next.

    A command prints it and ends with `exit_code`: 2 where the input or a setting is wrong, else 1. The gateway answers
    with `http_status`, and says to try again after `retry_seconds`, where that may help. A Dagster run fails with it,
    without a stack trace. `advice` is a second sentence for a person at the command line.
    """

    exit_code = 1
    http_status = 409
    retry_seconds: int | None = None
    advice = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the gateway's answer."""
        return {} if self.retry_seconds is None else {"Retry-After": str(self.retry_seconds)}


class WrongInput(ExpectedError):
    """What was asked for does not exist, does not fit or makes no sense; nothing was changed."""

    exit_code = 2


class CallRefused(ExpectedError):
    """Ends a call of the gateway with a status and a sentence."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.http_status = status
        self._headers = headers or {}

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the gateway's answer."""
        return self._headers
