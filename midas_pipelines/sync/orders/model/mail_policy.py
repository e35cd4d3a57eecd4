"""Which customers get mail, and about what. Pure.

Messages are about what the shop does: received, shipped, cancelled. The marketplace itself writes about refunds, the carrier
about deliveries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from midas_pipelines.settings import Settings

RELAYS = (
    "members.ebay.com",
    "relay.walmart.com",
    "scs.tiktokw.us",
    "scs.tiktokw.eu",
    "scs.tiktok.com",
    "scs2.tiktok.com",
    "chat-seller.tiktok.com",
    "etsy.com",
    "mail.mercadolibre.com",
    "mail.mercadolivre.com",
    "allegromail.pl",
    "example.invalid",
)
"""Relay domains of marketplaces, which confirm orders themselves and limit what sellers write."""

AMAZON = re.compile(r"marketplace\.amazon\.(com|[a-z]{2}|com?\.[a-z]{2})")
"""Amazon's aliases for buyers, one domain for each country."""

DATED = ("received",)
"""Kinds of mail that are not sent for an old order, as on the first import."""


@dataclass(frozen=True)
class MailPolicy:
    """Args:
    enabled: whether any mail is sent at all.
    on: sales channels whose customers get mail even at relay addresses.
    off: sales channels whose customers never get mail.
    newest_hours: an order placed longer ago is not confirmed.
    """

    enabled: bool = False
    on: frozenset[str] = frozenset()
    off: frozenset[str] = frozenset()
    newest_hours: int = 48

    def wants(
        self, kind: str, sales_channel: str | None, email: str | None, placed_at: datetime | None
    ) -> bool:
        """Whether this customer gets a message of that kind; no where an unknown channel or date could rule it out."""
        channel = (sales_channel or "").lower()
        if not self.enabled or not email or "@" not in email or channel in self.off:
            return False
        if not channel and self.off:
            return False
        if kind in DATED:
            if placed_at is None:
                return False
            age = datetime.now(UTC) - placed_at
            if age > timedelta(hours=self.newest_hours):
                return False
        return channel in self.on or not is_relay(email)


SILENT = MailPolicy()


def is_relay(email: str) -> bool:
    """Whether the address is a marketplace's alias for a buyer."""
    domain = email.rsplit("@", 1)[-1].strip().lower()
    known = any(domain == relay or domain.endswith(f".{relay}") for relay in RELAYS)
    return known or AMAZON.fullmatch(domain) is not None


def mail_policy(settings: Settings) -> MailPolicy:
    """The mail policy of the settings; without an SMTP server, no mail is sent."""
    return MailPolicy(
        enabled=settings.smtp_url is not None,
        on=frozenset(name.lower() for name in settings.mail_channels_on),
        off=frozenset(name.lower() for name in settings.mail_channels_off),
        newest_hours=settings.mail_newest_hours,
    )
