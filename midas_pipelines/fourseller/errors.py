"""Errors of calls to 4Seller; each message is one sentence for an operator.

No message holds a key, a header or personal data: only the call, the item it was about, and the server's own words.
"""

from midas_pipelines.errors import ExpectedError


class FourSellerError(ExpectedError):
    """The root of the family; each attribute is empty where it does not apply.

    Args:
        message: what happened, to which item, what to do.
        item: the SKU or id the call was about.
        status: the HTTP status, if there was one.
        code: the server's own error code.
        field: where the answer breaks the contract.
        rows: how many rows there were in a list that broke off.
        retry_after_seconds: when to try again, two minutes at most.
        asked_seconds: the pause that 4Seller asked for.
    """

    http_status = 503
    retry_seconds: int | None = 30

    def __init__(
        self,
        message: str,
        *,
        item: str | None = None,
        status: int | None = None,
        code: str | None = None,
        field: str = "",
        rows: int = 0,
        retry_after_seconds: float = 0.0,
        asked_seconds: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.item, self.status, self.code = item, status, code
        self.field, self.rows = field, rows
        self.retry_after_seconds, self.asked_seconds = retry_after_seconds, asked_seconds


class CallFailed(FourSellerError):
    """A single call failed: others may succeed."""


class BadItem(CallFailed):
    """4Seller refused the item itself (400, 422): sending it again changes nothing until it is corrected."""


class BadCredentials(FourSellerError):
    """The access is misconfigured: 4Seller refused the key or the seller id (401, 403), or the address redirects (3xx).
    Every further call would fail too."""

    exit_code = 2

    @property
    def of_key(self) -> bool:
        """Whether 4Seller refused the key or the seller id: staff hears of that once."""
        return self.status in (401, 403)


class NotFound(CallFailed):
    """The product or order is not there (404)."""


class Conflict(CallFailed):
    """The call contradicts what 4Seller holds (409): an illegal status move, or a SKU that exists."""


class RateLimited(CallFailed):
    """4Seller asked for a pause longer than the call may take (429). Nothing was applied."""


class Unavailable(CallFailed):
    """4Seller could not be reached or failed, and nothing was changed by the call."""


class NotSent(CallFailed):
    """A write that was not sent, such as one whose worker may have lost the claim on the item."""


class ShadowWrite(NotSent):
    """A write that was recorded and not sent: MIDAS_SHADOW is on."""

    http_status = 409
    retry_seconds = None


class NotConnected(NotSent):
    """A write of a listing before a person has accepted the first connection."""

    http_status = 409
    retry_seconds = None


class NeedsNewKey(BadCredentials):
    """Nothing was sent: 4Seller refused this key before."""

    of_key = True


class Ambiguous(CallFailed):
    """A write whose answer was lost: it may have been applied. Look before sending it again."""


class ContractBroken(CallFailed):
    """4Seller's answer breaks the contract; `field` names where."""


class BrokenListing(ContractBroken):
    """A list ended before its declared total, or its pages repeat; everything that it had was read."""


NOT_READ = (Unavailable, RateLimited, ContractBroken)
"""How a read fails that may succeed later, with the same key."""
