"""Probes of the 4Seller account: the address, TLS, the key, the seller id, the clock, the rate limit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError
from midas_pipelines.lib.doctor.line import Finding, ok, warning, wrong
from midas_pipelines.lib.doctor.shop import clock_line
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import api_errors
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.gate import accept_key, key_is_refused

NEW_KEY = "Make a key at 4Seller, set FOURSELLER_API_KEY, then run `midas doctor --new-key`."


def channel_lines(
    settings: Settings, database: Database | None, *, new_key: bool = False
) -> Iterator[Finding]:
    """The account, line by line; `new_key` resumes pushes when 4Seller takes a key that it refused before."""
    access = settings.channel()
    yield ok("TLS", _tls(access.url))
    client, failed = asyncio.run(_ask(settings))
    if isinstance(failed, BadCredentials):
        yield wrong("key and seller id", str(failed), NEW_KEY)
        return
    if failed is not None:
        yield wrong(
            "4Seller", str(failed), "See that FOURSELLER_API_URL is right and this machine reaches it."
        )
        return
    yield ok("key and seller id", "4Seller takes them, for products and for orders.")
    if database is not None and new_key and accept_key(database, access):
        yield ok("refused key", "4Seller takes the key again: pushes go on.")
    elif database is not None and key_is_refused(database, access):
        yield warning(
            "refused key", "It was refused before, and pushes wait.", "Run `midas doctor --new-key`."
        )
    if client.clock_ahead is None:
        yield warning("clock of 4Seller", "Its answers carry no date.", "Compare the two clocks by hand.")
    else:
        yield clock_line("4Seller", client.clock_ahead)
    if database is not None:
        yield _rate(settings, database)


def _tls(url: str) -> str:
    if url.startswith("https://"):
        return "4Seller is reached by https, and its certificate is verified."
    return "4Seller is a sandbox on this machine: no TLS is needed."


async def _ask(settings: Settings) -> tuple[FourSeller, FourSellerError | None]:
    """A client that has read the first page of products and of orders, or why it could not."""
    access = settings.channel()
    async with FourSeller(
        base_url=access.url, api_key=access.api_key, seller_id=access.seller_id, deadline_seconds=10
    ) as client:
        try:
            async for _ in client.product_pages():
                break
            async for _ in client.order_pages(status="pending"):
                break
        except FourSellerError as failed:
            return client, failed
    return client, None


def _rate(settings: Settings, database: Database) -> Finding:
    limited = sa.select(sa.func.count()).where(
        api_errors.c.status == 429, api_errors.c.created_at > utc_now(-24 * 3600)
    )
    with database.reading() as connection:
        met = connection.scalar(limited) or 0
    set_to = f"MIDAS_RATE_LIMIT is {settings.rate_limit:g} a second" if settings.rate_limit else "it adapts"
    if met > 100:
        step = "Set MIDAS_RATE_LIMIT to what your account allows."
        return warning("rate limit", f"{met} calls met it in 24 hours; {set_to}.", step)
    return ok("rate limit", f"{met} calls met it in 24 hours; {set_to}.")
