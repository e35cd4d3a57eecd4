"""Probes of the two sides: the shop's database, and the 4Seller account; each yields lines of the report."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.cursors import database_ahead, is_connected
from midas_pipelines.store.schema.tables import api_errors
from midas_pipelines.store.schema.version import version
from midas_pipelines.storefront.schema import NEEDED, differing_columns
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import APART_SECONDS
from midas_pipelines.sync.gate import accept_key, key_is_refused

WRITTEN = ("products", "product_variants", "orders", "order_items", "order_status_history")


@dataclass(frozen=True)
class Finding:
    """One line: what was checked, how it is, and what to do; `next_step` is empty where all is well."""

    check: str
    state: Literal["ok", "warning", "wrong"]
    found: str
    next_step: str = ""


def ok(check: str, found: str) -> Finding:
    """A line about something that is as it should be."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, next_step: str) -> Finding:
    """A line about something that works for now, or is not set."""
    return Finding(check, "warning", found, next_step)


def wrong(check: str, found: str, next_step: str) -> Finding:
    """A line about something that keeps the system from working."""
    return Finding(check, "wrong", found, next_step)


def shop_lines(database: Database) -> Iterator[Finding]:
    """The shop's database: reachable, its tables, columns and rights, our tables, triggers, its clock."""
    file = database.engine.url.database
    if not database.is_postgresql and not Path(file or "").exists():
        step = "Name the shop's file in MIDAS_DATABASE_URL, or make a sample shop with `midas store seed`."
        yield wrong("database", f"There is no file {file}.", step)
        return
    at = version(database)
    yield ok("database", f"{'PostgreSQL' if database.is_postgresql else 'SQLite'} answers.")
    if at.shop_tables_missing:
        missing = f"There is no table {', '.join(at.shop_tables_missing)}."
        step = "Name the shop's database in MIDAS_DATABASE_URL, or make a sample shop: `midas store seed`."
        yield wrong("shop's tables", missing, step)
        return
    yield _columns(database)
    yield _rights(database)
    upgrade = "Run `midas db upgrade`."
    if at.current != at.newest:
        yield wrong("our tables", f"They are at version {at.current or 'none'}, not {at.newest}.", upgrade)
        return
    yield ok("our tables", f"They are at version {at.newest}.")
    if off := at.triggers_missing:
        found = f"{len(off)} triggers are missing or off, such as {off[0]}: changes are not seen."
        yield wrong("triggers", found, upgrade)
    elif not at.triggers_fire:
        step = "Run `ALTER DATABASE ... RESET session_replication_role`, or the same for the role."
        yield wrong("triggers", "session_replication_role keeps triggers from firing.", step)
    else:
        yield ok("triggers", "They are in place and on.")
    yield _clock("database", database_ahead(database))
    if is_connected(database):
        yield ok("first connection", "Listings may be written.")
    else:
        step = "Run `midas connect`; where 4Seller has listings, read it and run `midas connect accept`."
        yield warning("first connection", "Nothing was synced yet.", step)


def _columns(database: Database) -> Finding:
    with database.reading() as connection:
        found = differing_columns(connection)
    if found:
        step = "Put them back in the shop's tables; docs/architecture.md says what the integration reads."
        worst = ", ".join(f"{row['column']} ({row['found']})" for row in found[:10])
        return wrong("shop's tables", f"Columns are missing or of another kind: {worst}.", step)
    return ok("shop's tables", f"All {len(NEEDED)} tables have the columns that are needed.")


def _rights(database: Database) -> Finding:
    """Whether our user may write; nothing is changed."""
    if not database.is_postgresql:
        with database.writing():  # takes the write lock
            return ok("rights", "The file can be written.")
    query = sa.text("SELECT has_table_privilege(:name, 'INSERT') AND has_table_privilege(:name, 'UPDATE')")
    with database.reading() as connection:
        lacking = ", ".join(name for name in WRITTEN if not connection.scalar(query, {"name": name}))
    if lacking:
        step = f"GRANT SELECT, INSERT, UPDATE ON {lacking} TO our user."
        return wrong("rights", f"Our user may not write {lacking}.", step)
    return ok("rights", "Our user may read and write the shop's tables.")


def _clock(whose: str, ahead: float) -> Finding:
    """A clock against this machine's, by the seconds that it is ahead."""
    words = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's."
    if abs(ahead) < APART_SECONDS:
        return ok(f"clock of {whose}", words)
    step = "Set the clocks by NTP: at five minutes webhooks are refused."
    return wrong(f"clock of {whose}", words, step)


def channel_lines(
    settings: Settings, database: Database | None, *, new_key: bool = False
) -> Iterator[Finding]:
    """The 4Seller account: TLS, key, clock and rate limit; `new_key` resumes pushes when 4Seller takes the key again."""
    access = settings.channel()
    reached = "4Seller is reached by https, and its certificate is verified."
    local = "4Seller is a sandbox on this machine: no TLS is needed."
    yield ok("TLS", reached if access.url.startswith("https://") else local)
    try:
        ahead = asyncio.run(_read_both(settings))
    except BadCredentials as refused:
        step = "Make a key at 4Seller, set FOURSELLER_API_KEY, then run `midas doctor --new-key`."
        yield wrong("key and seller id", str(refused), step)
        return
    except FourSellerError as failed:
        step = "See that FOURSELLER_API_URL is right and this machine reaches it."
        yield wrong("4Seller", str(failed), step)
        return
    yield ok("key and seller id", "4Seller takes them, for products and for orders.")
    if database is not None and new_key and accept_key(database, access):
        yield ok("refused key", "4Seller takes the key again: pushes go on.")
    elif database is not None and key_is_refused(database, access):
        words = "It was refused before, and pushes wait."
        yield warning("refused key", words, "Run `midas doctor --new-key`.")
    if ahead is None:
        words = "Its answers carry no date."
        yield warning("clock of 4Seller", words, "Compare the two clocks by hand.")
    else:
        yield _clock("4Seller", ahead)
    if database is not None:
        yield _rate(settings, database)


async def _read_both(settings: Settings) -> float | None:
    """Reads the first page of products and of orders; returns the seconds that 4Seller's clock is ahead."""
    access = settings.channel()
    async with FourSeller(
        base_url=access.url, api_key=access.api_key, seller_id=access.seller_id, deadline_seconds=10
    ) as client:
        await anext(client.product_pages(), None)
        await anext(client.order_pages(status="pending"), None)
        return client.clock_ahead


def _rate(settings: Settings, database: Database) -> Finding:
    limited = sa.select(sa.func.count()).where(
        api_errors.c.status == 429, api_errors.c.created_at > utc_now(-24 * 3600)
    )
    with database.reading() as connection:
        met = connection.scalar(limited) or 0
    set_to = f"MIDAS_RATE_LIMIT is {settings.rate_limit:g} a second" if settings.rate_limit else "it adapts"
    words = f"{met} calls met it in 24 hours; {set_to}."
    if met > 100:
        return warning("rate limit", words, "Set MIDAS_RATE_LIMIT to what your account allows.")
    return ok("rate limit", words)
