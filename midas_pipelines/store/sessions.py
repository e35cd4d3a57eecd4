"""PostgreSQL sessions that behave alike whatever the server, the database or the role has set, with bounded waits."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

from midas_pipelines.settings import DatabaseLimits

Result = TypeVar("Result")

ENDED_IDLE = (None, "57P05", "57014")
SOON_SECONDS = 2.0
"""How, and how soon after its login, a session ends that one of the server's own time-outs cuts short."""

READ_IDLE_SECONDS = 60
"""How long a transaction that only reads may say nothing: it holds no row that the shop could want."""

ANSWER_MARGIN_SECONDS = 5.0
"""What the server gets beyond its own limit for a statement, before it counts as silent."""

PINNED = {
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "xmloption": "content",
    "client_min_messages": "warning",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "idle_session_timeout": "0",  # the pool keeps sessions, and one listens
    "transaction_timeout": "0",
    "random_page_cost": "1.1",  # as of a solid-state disk: with 4 whole tables are read where an index serves
    "jit": "off",  # to compile a statement takes longer than most of ours run
}
"""What a server, a database or a role may have set otherwise; a setting that the server does not know is left out."""

PIN = """
SELECT pg_catalog.set_config(given.name, given.value, {local})
FROM unnest(%s::text[], %s::text[]) AS given(name, value)
JOIN pg_catalog.pg_settings AS known ON pg_catalog.lower(known.name) = given.name
"""
READ = """
SELECT pg_catalog.current_setting('search_path'), pg_catalog.to_regclass('products') IS NOT NULL,
       pg_catalog.current_setting('synchronous_commit')
"""
AT_ONCE = "-c idle_session_timeout=0 -c statement_timeout=0"
"""Sent with the login where a database ends a new session before it can be pinned; not every pooler takes it."""
USUAL_PATH = '"$user", public'
"""Where the shop's tables are looked for when the search path that the server gives does not lead to them."""


def network(limits: DatabaseLimits) -> dict[str, Any]:
    """How soon a connection that cannot be made, or has gone dead, is noticed."""
    return {
        "connect_timeout": limits.connect_seconds,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,  # milliseconds
    }


def pin_sessions(engine: sa.Engine, limits: DatabaseLimits) -> None:
    """Makes every new connection of the engine a pinned session with these limits."""

    @sa.event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, arguments: Any, parameters: Any) -> Session:
        began = time.monotonic()
        try:
            return Session.begun(limits, *arguments, **parameters)
        except psycopg.OperationalError as ended:
            cut = ended.sqlstate in ENDED_IDLE and time.monotonic() < began + SOON_SECONDS
            if not cut or "options" in parameters:
                raise
        return Session.begun(limits, *arguments, **parameters, options=AT_ONCE)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        session = connection.connection.driver_connection
        if isinstance(session, Session):
            reads = connection.get_execution_options().get("midas_reads_only", False)
            session.begin_transaction(connection, reads=reads)


class Session(psycopg.Connection[Any]):
    """One connection. The server ends what takes too long; a server that is silent itself is given up."""

    answer_seconds: float | None = None
    pooled = False

    @classmethod
    def begun(cls, limits: DatabaseLimits, *arguments: Any, **parameters: Any) -> Session:
        """A new session, pinned."""
        session = cls.connect(*arguments, **parameters)
        try:
            session.begin_life(limits)
        except BaseException:
            session.close()
            raise
        return session

    def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:
        """As psycopg's own, for so long as the server may take. Raises psycopg.OperationalError where no answer
        came; the connection is closed, for the answer could come later."""
        limit = self.answer_seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError as failed:
            if failed.sqlstate is not None or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.close()
            raise psycopg.OperationalError(f"The database gave no answer for {limit:g} seconds.") from None

    def begin_life(self, limits: DatabaseLimits) -> None:
        """Pins the session. Behind a pooler the server's session changes, so each transaction pins it for itself."""
        self._idle = {"idle_in_transaction_session_timeout": _milliseconds(limits.idle_seconds)}
        self._pinned = PINNED | {
            "lock_timeout": _milliseconds(limits.lock_seconds),
            "statement_timeout": _milliseconds(limits.statement_seconds),
            "idle_in_transaction_session_timeout": _milliseconds(READ_IDLE_SECONDS),
        }
        self.answer_seconds = limits.statement_seconds + ANSWER_MARGIN_SECONDS
        self.autocommit = True
        self.execute("SET statement_timeout = 0")  # one of the database's own could end what follows
        path, leads_to_shop, commit = self.execute(READ).fetchone() or ("", True, "on")
        if commit == "off":  # what was answered must be on disk
            self._pinned["synchronous_commit"] = "on"
        self._pinned["search_path"] = path if leads_to_shop else USUAL_PATH
        self.execute(PIN.format(local="false").encode(), [[*self._pinned], [*self._pinned.values()]])
        (server,) = self.execute("SELECT pg_catalog.pg_backend_pid()").fetchone() or (0,)
        self.pooled = server != self.info.backend_pid
        if self.pooled:
            self.prepare_threshold = None
        self.autocommit = False

    def begin_transaction(self, connection: sa.Connection, *, reads: bool) -> None:
        """Bounds how long a transaction that writes may hold its rows and say nothing: the shop waits for them.

        Args:
            connection: SQLAlchemy's own of this session, which knows the errors of a lost one.
            reads: the transaction only reads.
        """
        if self.pooled:
            pinned = self._pinned | ({} if reads else self._idle)
            connection.exec_driver_sql(PIN.format(local="true"), ([*pinned], [*pinned.values()]))
        elif not reads:
            limit = self._idle["idle_in_transaction_session_timeout"]
            connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {limit}")


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))
