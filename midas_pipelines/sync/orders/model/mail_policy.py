"""Which customers get mail, and about what. Pure.

Messages are about what the shop does: received, shipped, cancelled. The marketplace itself writes about refunds, the carrier
about deliveries.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from midas_pipelines.settings import Settings

RELAYS = re.compile(
    r"(.*\.)?(members\.ebay\.com|relay\.walmart\.com|scs\.tiktokw\.(us|eu)|scs2?\.tiktok\.com"
    r"|chat-seller\.tiktok\.com|etsy\.com|mail\.mercadoli[bv]re\.com|allegromail\.pl|example\.invalid)"
    r"|marketplace\.amazon\.(com|[a-z]{2}|com?\.[a-z]{2})"
)
"""Matches the domains of marketplaces' aliases for buyers: they confirm orders themselves and limit what sellers write."""


def wants_mail(
    settings: Settings | None,
    kind: str,
    sales_channel: str | None,
    email: str | None,
    placed_at: datetime | None,
) -> bool:
    """Whether this customer gets a message of that kind; no where an unknown channel or date could rule it out.

    Args:
        settings: of the shop; None sends nothing.
        kind: received, shipped or cancelled; an old order, as on the first import, is not confirmed as received.
        sales_channel: the marketplace of the order, if known.
        email: the buyer's address.
        placed_at: when the order was placed, if known.
    """
    if settings is None or settings.smtp_url is None or not email or "@" not in email:
        return False
    channel = (sales_channel or "").lower()
    on, off = (
        [name.lower() for name in names] for names in (settings.mail_channels_on, settings.mail_channels_off)
    )
    if channel in off or (off and not channel):
        return False
    oldest = datetime.now(UTC) - timedelta(hours=settings.mail_newest_hours)
    if kind == "received" and (placed_at is None or placed_at < oldest):
        return False
    return channel in on or not is_relay(email)


def is_relay(email: str) -> bool:
    """Whether the address is a marketplace's alias for a buyer."""
    return RELAYS.fullmatch(email.rsplit("@", 1)[-1].strip().lower()) is not None
