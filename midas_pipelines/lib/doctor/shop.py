"""Probes of the shop's database: reachable, ours, its tables, columns, rights, triggers and clock."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from midas_pipelines.lib.doctor.line import Finding, ok, warning, wrong
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.connection import is_connected
from midas_pipelines.store.operations.cursors import database_ahead
from midas_pipelines.store.schema.version import version
from midas_pipelines.storefront import schema
from midas_pipelines.storefront.columns import differing_columns
from midas_pipelines.sync.clocks import APART_SECONDS

WRITTEN = ("products", "product_variants", "orders", "order_items", "order_status_history")
UPGRADE = "Run `midas db upgrade`."


def shop_lines(database: Database) -> Iterator[Finding]:
    """The shop's database, line by line."""
    at = version(database)
    kind = "PostgreSQL" if database.is_postgresql else "SQLite"
    yield ok("database", f"{kind} answers.")
    if at.shop_tables_missing:
        missing = ", ".join(at.shop_tables_missing)
        step = (
            "Point MIDAS_DATABASE_URL at the shop's database, or make a sample shop with `midas store seed`."
        )
        yield wrong("shop's tables", f"There is no table {missing}.", step)
        return
    yield _columns(database)
    yield _rights(database)
    if at.current != at.newest:
        yield wrong("our tables", f"They are at version {at.current or 'none'}, not {at.newest}.", UPGRADE)
        return
    yield ok("our tables", f"They are at version {at.newest}.")
    yield _triggers(at.triggers_missing, fire=at.triggers_fire)
    yield clock_line("database", database_ahead(database))
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
    return ok("shop's tables", f"All {len(schema.NEEDED)} tables have the columns that are needed.")


def _rights(database: Database) -> Finding:
    """Whether our user may write; nothing is changed."""
    if not database.is_postgresql:
        with database.writing():  # takes the write lock
            return ok("rights", "The file can be written.")
    query = sa.text("SELECT has_table_privilege(:name, 'INSERT') AND has_table_privilege(:name, 'UPDATE')")
    with database.reading() as connection:
        lacking = [name for name in WRITTEN if not connection.scalar(query, {"name": name})]
    if lacking:
        grant = f"GRANT SELECT, INSERT, UPDATE ON {', '.join(lacking)} TO our user."
        return wrong("rights", f"Our user may not write {', '.join(lacking)}.", grant)
    return ok("rights", "Our user may read and write the shop's tables.")


def _triggers(missing: list[str], *, fire: bool) -> Finding:
    if missing:
        found = f"{len(missing)} triggers are missing or off, such as {missing[0]}: changes are not seen."
        return wrong("triggers", found, UPGRADE)
    if not fire:
        step = "Run `ALTER DATABASE ... RESET session_replication_role`, or the same for the role."
        return wrong("triggers", "session_replication_role keeps triggers from firing.", step)
    return ok("triggers", "They are in place and on.")


def clock_line(whose: str, ahead: float) -> Finding:
    """A clock against this machine's, by the seconds that it is ahead."""
    check = f"clock of {whose}"
    words = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's."
    if abs(ahead) >= APART_SECONDS:
        return wrong(check, words, "Set the clocks by NTP: at five minutes webhooks are refused.")
    return ok(check, words)
