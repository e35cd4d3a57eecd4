"""The doctor's report, from the settings to the disk, with the probes of the shop's database and the 4Seller account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError
from midas_pipelines.lib.doctor import surroundings
from midas_pipelines.lib.doctor.surroundings import Finding, ok, unless, warning, wrong
from midas_pipelines.notify.alerts import APART_SECONDS
from midas_pipelines.settings import Settings, SettingsError, load_settings
from midas_pipelines.store.database import Database, count_rows
from midas_pipelines.store.operations.cursors import database_ahead, is_connected
from midas_pipelines.store.schema.tables import api_errors
from midas_pipelines.store.schema.version import differing_columns, read_version
from midas_pipelines.storefront.schema import NEEDED, RIGHTS
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import accept_key, key_is_refused

MOST_LIMITED = 100  # calls a day that may meet the rate limit

MOST_UNINDEXED = 50_000  # rows that are read whole for each batch in some milliseconds
OWNERS = {
    "product_images": "product_id",
    "product_variants": "product_id",
    "order_items": "order_id",
    "order_status_history": "order_id",
}
"""The shop's tables whose rows are looked up by the product or order that they belong to."""


def doctor_report(given: Settings | None = None, *, new_key: bool = False) -> list[Finding]:
    """Checks everything that a start needs, by the `given` settings or those of this process. Changes nothing, but
    that `new_key` resumes pushes when 4Seller takes the key."""
    try:
        settings = given or load_settings()
    except SettingsError as failed:
        return [wrong("settings", str(failed), "Correct them; docs/settings.md lists all.")]
    lines = [ok("settings", "Each one that is set can be read.")]
    try:
        database = Database(settings.database(), settings.limits("bulk"))
    except SettingsError as failed:
        lines.append(wrong("database", str(failed), "Set MIDAS_DATABASE_URL."))
        return lines + _around(settings, None, new_key)
    with database:
        step = "See that it runs and MIDAS_DATABASE_URL is right."
        found = _probed("database", lambda: shop_lines(database), step)
        ready = any(line.check == "our tables" and line.state == "ok" for line in found)
        return lines + found + _around(settings, database if ready else None, new_key)


def _around(settings: Settings, database: Database | None, new_key: bool) -> list[Finding]:
    """What is around the shop; `database` where it is ready for use."""
    correct = "Correct the setting."
    access = "Set FOURSELLER_API_KEY and FOURSELLER_SELLER_ID."
    return [
        *_probed("4Seller", lambda: channel_lines(settings, database, new_key=new_key), access),
        *_probed("webhooks", lambda: surroundings.webhook_lines(settings, database), correct),
        *_probed("alerts", lambda: surroundings.mail_lines(settings), correct),
        *_probed("Dagster", lambda: surroundings.dagster_lines(settings, database), correct),
        *_probed("disk", lambda: surroundings.place_lines(settings, database), correct),
    ]


def _probed(check: str, probe: Callable[[], Iterable[Finding]], next_step: str) -> list[Finding]:
    """The lines of a probe, up to one, named `check`, that says why it ended early."""
    lines: list[Finding] = []
    try:
        lines.extend(probe())
    except ExpectedError as failed:
        lines.append(wrong(check, str(failed), next_step))
    except sa.exc.SQLAlchemyError as failed:
        reason = type(getattr(failed, "orig", None) or failed).__name__
        lines.append(wrong(check, f"The database did not answer as it should ({reason}).", next_step))
    except OSError as failed:
        lines.append(wrong(check, f"It failed: {failed.strerror or type(failed).__name__}.", next_step))
    return lines


def shop_lines(database: Database) -> Iterator[Finding]:
    """The shop's database: reachable, its tables, columns and rights, our tables, triggers, its clock."""
    file, sample = database.engine.url.database, "or make a sample shop with `midas store seed`."
    if not database.is_postgresql and not Path(file or "").exists():
        step = f"Name the shop's file in MIDAS_DATABASE_URL, {sample}"
        yield wrong("database", f"There is no file {file}.", step)
        return
    at = database.read(read_version)
    yield ok("database", f"{'PostgreSQL' if database.is_postgresql else 'SQLite'} answers.")
    if at.shop_tables_missing:
        missing = f"There is no table {', '.join(at.shop_tables_missing)}."
        yield wrong("shop's tables", missing, f"Name the shop's database in MIDAS_DATABASE_URL, {sample}")
        return
    worst = ", ".join(f"{row['column']} ({row['found']})" for row in database.read(differing_columns)[:10])
    differs = f"Columns are missing or of another kind: {worst}." if worst else ""
    step = "Put them back in the shop's tables; docs/architecture.md says what the integration reads."
    well = f"All {len(NEEDED)} tables have the columns that are needed."
    yield unless(differs, "shop's tables", step, well)
    lacking = ", ".join(_lacking_rights(database))
    refused = f"Our user lacks {lacking}." if lacking else ""
    step = "Run what `midas db grants ROLE` prints for our user."
    yield unless(refused, "rights", step, "Our user may read and write the shop's tables.")
    yield _indexes(database)
    upgrade = "Run `midas db upgrade`."
    if at.current != at.newest:
        yield wrong("our tables", f"They are at version {at.current or 'none'}, not {at.newest}.", upgrade)
        return
    yield ok("our tables", f"They are at version {at.newest}.")
    off, step = at.triggers_missing, upgrade
    found = f"{len(off)} triggers are missing or off, such as {off[0]}: changes are not seen." if off else ""
    if not off and not at.triggers_fire:
        step = "Run `ALTER DATABASE ... RESET session_replication_role`, or the same for the role."
        found = "session_replication_role keeps triggers from firing."
    yield unless(found, "triggers", step, "They are in place and on.")
    yield _clock("database", database_ahead(database))
    step = "Run `midas connect`; where 4Seller has listings, read it and run `midas connect accept`."
    none = warning("first connection", "Nothing was synced yet.", step)
    yield ok("first connection", "Listings may be written.") if is_connected(database) else none


def _lacking_rights(database: Database) -> Iterator[str]:
    """The rights on the shop's tables that our user does not have; nothing is changed."""
    if not database.is_postgresql:
        with database.writing():  # takes the write lock
            return
    with database.reading() as connection:
        for table, rights in (dict.fromkeys(NEEDED, "SELECT") | RIGHTS).items():
            for right in rights.split(", "):
                action, _, column = right.rstrip(")").partition(" (")
                held = sa.func.has_table_privilege(table, action)
                if column:
                    held = sa.func.has_column_privilege(table, column, action)
                if not connection.scalar(sa.select(held)):
                    yield f"{right} on {table}"


def _indexes(database: Database) -> Finding:
    """Whether a large table of the shop's has an index by which the rows of a product or order are found."""
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        firsts = {table: [one["column_names"][0] for one in inspector.get_indexes(table)] for table in OWNERS}
    lacking = [table for table, column in OWNERS.items() if column not in firsts[table]]
    slow = [table for table in lacking if count_rows(database, table) > MOST_UNINDEXED]
    if not slow:
        return ok("indexes", "None is missed.")
    words = f"{', '.join(slow)}: read whole for each batch of products or orders, and large."
    how = "CREATE INDEX CONCURRENTLY" if database.is_postgresql else "CREATE INDEX"
    steps = [f"{how} {table}_owner ON {table} ({OWNERS[table]});" for table in slow]
    return warning("indexes", words, f"Run, as the owner of the shop's tables: {' '.join(steps)}")


def _clock(whose: str, ahead: float) -> Finding:
    """A clock against this machine's, by the seconds that it is ahead."""
    words = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's."
    step = "Set the clocks by NTP: at five minutes webhooks are refused."
    return unless(words if abs(ahead) >= APART_SECONDS else "", f"clock of {whose}", step, words)


def channel_lines(settings: Settings, database: Database | None, *, new_key: bool) -> Iterator[Finding]:
    """The 4Seller account: TLS, key, clock and rate limit; `new_key` resumes pushes when 4Seller takes the key again."""
    access = settings.channel()
    local = "4Seller is a sandbox on this machine: no TLS is needed."
    tls = "4Seller is reached by https, and its certificate is verified."
    yield ok("TLS", tls if access.url.startswith("https://") else local)
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
    none = warning("clock of 4Seller", "Its answers carry no date.", "Compare the two clocks by hand.")
    yield none if ahead is None else _clock("4Seller", ahead)
    if database is None:
        return
    day = (api_errors.c.status == 429, api_errors.c.created_at > utc_now(-24 * 3600))
    met = database.scalar(sa.select(sa.func.count()).where(*day)) or 0
    set_to = f"MIDAS_RATE_LIMIT is {settings.rate_limit:g} a second" if settings.rate_limit else "it adapts"
    words = f"{met} calls met it in 24 hours; {set_to}."
    step = "Set MIDAS_RATE_LIMIT to what your account allows."
    yield warning("rate limit", words, step) if met > MOST_LIMITED else ok("rate limit", words)


async def _read_both(settings: Settings) -> float | None:
    """Reads the first page of products and of orders; returns the seconds that 4Seller's clock is ahead."""
    access = settings.channel()
    async with FourSeller(
        base_url=access.url, api_key=access.api_key, seller_id=access.seller_id, deadline_seconds=10
    ) as client:
        await anext(client.product_pages(), None)
        await anext(client.order_pages(status="pending"), None)
        return client.clock_ahead
