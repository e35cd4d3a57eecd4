"""Access to the shop's database: engines, and transactions that read or write.

SQLite runs in WAL mode; a writing transaction there takes the write lock when it begins (`BEGIN IMMEDIATE`),
so that what it reads cannot change under it, as row locks give on PostgreSQL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.settings import BULK, DatabaseLimits
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.text import to_json

Given = ParamSpec("Given")
Found = TypeVar("Found")
Work = Callable[Concatenate[sa.Connection, Given], Found]  # what is done with a connection

_VALUES = re.compile(r"\n(?:DETAIL|CONTEXT):")  # where PostgreSQL's messages begin to quote rows
_QUOTED = re.compile(r'".*"', re.DOTALL)
DATA_EXCEPTIONS = "22"
"""The class of SQLSTATE whose first line quotes a value; in the others a quoted word is a name."""
OF_A_TRIGGER = "exec_stmt_raise"
"""Where in PostgreSQL an error arises whose text a trigger of the shop's wrote, and may quote anything."""
OURS = "function midas_refuse_change()"  # the one function of ours that raises; its text quotes nothing


SHOP_WRITE = re.compile(
    r"\s*(?:WITH\b.*?)?(?:(?:INSERT\s+INTO|DELETE\s+FROM|UPDATE)\s+\"?(?:orders|order_items|order_status_history)\b"
    r"|UPDATE\s+\"?(?:products|product_variants)\b)",
    re.IGNORECASE | re.DOTALL,
)
"""A statement that writes to the shop's orders or stock, which shadow mode keeps as they are."""
SHOP_WRITTEN = "midas_shop_written"
KEPT_BACK = (
    "Shadow mode keeps the shop's orders and stock as they are, so nothing was changed: turn it off (MIDAS_SHADOW), then "
    "try again."
)

COUNTED_ROWS = 50_000
"""Up to so many rows of a table are counted, in a few milliseconds; of more the server's estimate is taken."""

BOUND_STATEMENTS = "SELECT set_config('statement_timeout', %s, true)"


class InShadow(ExpectedError):
    """What a person asked for is kept back by shadow mode."""


class Database:
    """An engine and its two kinds of transaction; safe to share between threads."""

    def __init__(self, url: sa.URL, limits: DatabaseLimits = BULK) -> None:
        self.engine = _make_engine(url, limits)
        self.is_postgresql = self.engine.dialect.name == "postgresql"
        self.shadow = limits.shadow
        if limits.shadow:
            sa.event.listen(self.engine, "before_cursor_execute", _note_shop_write)
        one_moment = {"isolation_level": "REPEATABLE READ"} if self.is_postgresql else {}
        self._reader = self.engine.execution_options(midas_reads_only=True, **one_moment)

    @contextmanager
    def writing(
        self, *, asked: bool = False, statement_seconds: float | None = None
    ) -> Iterator[sa.Connection]:
        """One transaction, committed when the block ends well and rolled back when it raises.

        In shadow mode one that wrote to the shop's orders or stock is rolled back as a whole at its end: what a person
        `asked` for raises InShadow then.

        On PostgreSQL no statement, and no trigger that is deferred to the commit, takes longer than `statement_seconds`.
        """
        with self.engine.begin() as connection:
            connection.info.pop(SHOP_WRITTEN, None)
            if statement_seconds is not None and self.is_postgresql:
                connection.exec_driver_sql(BOUND_STATEMENTS, (f"{statement_seconds * 1000:.0f}",))
            yield connection
            if statement_seconds is not None and self.is_postgresql:
                connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")  # for a commit has no bound
            if self.shadow and connection.info.pop(SHOP_WRITTEN, False):
                connection.rollback()
                if asked:
                    raise InShadow(KEPT_BACK)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A consistent snapshot for any number of queries; it never waits for a writer."""
        with self._reader.connect() as connection:
            yield connection
            connection.rollback()

    def read(self, work: Work[Given, Found], *args: Given.args, **named: Given.kwargs) -> Found:
        """What `work` finds in one transaction that reads."""
        with self.reading() as connection:
            return work(connection, *args, **named)

    def write(self, work: Work[Given, Found], *args: Given.args, **named: Given.kwargs) -> Found:
        """What `work` returns, done in one transaction that writes."""
        with self.writing() as connection:
            return work(connection, *args, **named)

    def scalar(self, query: sa.Select[tuple[Found]]) -> Found | None:
        """The first column of the query's first row; None without a row."""
        with self.reading() as connection:
            return connection.scalar(query)

    def rows(self, query: sa.Select[Any] | sa.CompoundSelect[Any]) -> list[dict[str, Any]]:
        """The rows of the query, each by column."""
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def now(self) -> datetime:
        """The database's own clock, which dates its rows; ours may differ."""
        return self.read(lambda connection: connection.execute(sa.select(utc_now())).scalar_one())

    def overwrite_erased(self) -> None:
        """Takes what was erased out of SQLite's log too; PostgreSQL does that by its own vacuum."""
        if self.is_postgresql:
            return
        with closing(self.engine.raw_connection()) as connection:  # outside of any transaction
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Gives back every pooled connection."""
        self.engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def count_rows(database: Database, table: str) -> int:
    """The number of rows of a table; beyond `COUNTED_ROWS` on PostgreSQL its estimate, by the last vacuum or analyze."""
    if database.is_postgresql:
        estimate = sa.text("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(:name)")
        found: int = database.read(lambda connection: connection.scalar(estimate, {"name": table}) or 0)
        if found > COUNTED_ROWS:
            return found
    return database.scalar(sa.select(sa.func.count()).select_from(sa.table(table))) or 0


def _note_shop_write(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
    if SHOP_WRITE.match(statement):
        connection.info[SHOP_WRITTEN] = True


def _make_engine(url: sa.URL, limits: DatabaseLimits) -> sa.Engine:
    pool = {
        "pool_size": limits.connections,
        "max_overflow": limits.connections,
        "pool_timeout": limits.pool_seconds,
        "hide_parameters": True,
        "json_serializer": to_json,
    }
    if url.get_backend_name() == "postgresql":
        from midas_pipelines.store import sessions  # psycopg takes a tenth of a second to load

        given = {"application_name": f"midas_pipelines {limits.role}", **sessions.network(limits)}
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args=given, **pool)
        sessions.pin_sessions(engine, limits)
        sa.event.listen(engine, "handle_error", _without_values)
        return engine
    engine = sa.create_engine(
        url, connect_args={"timeout": limits.busy_seconds, "isolation_level": None}, **pool
    )
    sa.event.listen(engine, "do_connect", _make_private_file)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _without_values(context: sa.engine.ExceptionContext) -> None:
    """Keeps the rows' own values, which may be personal, out of every error text, as `hide_parameters` does ours."""
    original = context.original_exception
    quotes = (getattr(original, "sqlstate", None) or "").startswith(DATA_EXCEPTIONS)
    diag = getattr(original, "diag", None)
    raised = diag is not None and diag.source_function == OF_A_TRIGGER and OURS not in (diag.context or "")
    for error in (original, context.sqlalchemy_exception):
        if error is not None and error.args and isinstance(error.args[0], str):
            text = "A trigger raised it." if raised else _VALUES.split(error.args[0], maxsplit=1)[0]
            error.args = (_QUOTED.sub('"…"', text) if quotes else text, *error.args[1:])


def _make_private_file(_dialect: Any, _record: Any, given: list[Any], _options: dict[str, Any]) -> None:
    """A file that does not exist yet is made for its owner alone; SQLite gives its journals the same mode."""
    # Never opens a file that exists: to close it again would drop the locks that this process holds on it.
    with suppress(OSError):  # SQLite says better what is wrong
        os.close(os.open(given[0], os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get("midas_reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
