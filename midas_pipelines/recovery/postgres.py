"""Tables of PostgreSQL as one script of SQL with their rows, as `pg_dump` writes it, and the way back.

Where `pg_dump` is not installed, or is older than the server, the definitions come from the catalog and the rows from
COPY. Triggers, views, grants and row security of the shop's own are not part of it; ours are installed by an upgrade.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS kind, a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid) AS default_, a.attidentity, a.attgenerated,
       CASE WHEN c.relkind = 'S' THEN c.relname END AS sequence
FROM pg_attribute a
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_class c ON c.oid = to_regclass(pg_get_serial_sequence(a.attrelid::regclass::text, a.attname))
WHERE a.attrelid = to_regclass(quote_ident(:table)) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
CHECKS = """
SELECT ', CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE conrelid = to_regclass(quote_ident(:table)) AND contype = 'c' ORDER BY conname
"""
CONSTRAINTS = """
SELECT 'ALTER TABLE ' || conrelid::regclass || ' ADD CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE conrelid IN (SELECT to_regclass(quote_ident(n)) FROM unnest(CAST(:tables AS text[])) n)
AND (contype IN ('p', 'u', 'x') OR contype = 'f' AND confrelid IN
     (SELECT to_regclass(quote_ident(n)) FROM unnest(CAST(:tables AS text[])) n))
ORDER BY contype = 'f', contype <> 'p', conname
"""
INDEXES = """
SELECT replace(pg_get_indexdef(i.indexrelid), ' ON ' || quote_ident(current_schema()) || '.', ' ON ')
FROM pg_index i WHERE i.indrelid IN (SELECT to_regclass(quote_ident(n)) FROM unnest(CAST(:tables AS text[])) n)
AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid) ORDER BY i.indexrelid
"""
ENUMS = """
SELECT 'DO $midas$ BEGIN CREATE TYPE ' || quote_ident(t.typname) || ' AS ENUM (' ||
       string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) ||
       '); EXCEPTION WHEN duplicate_object THEN NULL; END $midas$'
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = current_schema() GROUP BY t.typname ORDER BY t.typname
"""
PATIENT = {"lock_timeout": "5s", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
LEFT_OUT = (b"\\", b"SET transaction_timeout")
"""What `pg_dump` writes for psql, and what servers before 17 do not know."""
KEEP_PATH = "SELECT set_config('midas.path', current_setting('search_path'), false)"
SAME_PATH = "SELECT set_config('search_path', current_setting('midas.path'), false)"
"""`pg_dump` empties the search path, by which our own statements find their tables."""


def tables_of(connection: sa.Connection) -> list[str]:
    """The tables of the current schema."""
    query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
    return list(connection.scalars(sa.text(query)))


def dump(connection: sa.Connection, tables: Sequence[str]) -> Iterator[bytes]:
    """The tables and their rows as a script that makes them again; foreign keys only among them.

    Args:
        connection: a transaction that reads one snapshot; all rows are of that moment.
        tables: of the current schema.

    Raises:
        ExpectedError: `pg_dump` failed.
    """
    among = {"tables": list(tables)}
    yield _written(KEEP_PATH, *connection.scalars(sa.text(ENUMS)))
    program = _pg_dump(connection)
    yield from _by_copy(connection, tables) if program is None else _by_pg_dump(connection, tables, program)
    later = (CONSTRAINTS, INDEXES)
    yield _written(
        SAME_PATH, *(line for query in later for line in connection.scalars(sa.text(query), among))
    )


def _written(*statements: str) -> bytes:
    return "".join(f"{statement};\n" for statement in statements).encode()


def _pg_dump(connection: sa.Connection) -> str | None:
    """The program, where it is installed and not older than the server."""
    program = shutil.which("pg_dump")
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    major = re.search(r"\d+", said)
    server: int = _driver(connection).info.server_version // 10_000
    return program if major and int(major[0]) >= server else None


def _by_pg_dump(connection: sa.Connection, tables: Sequence[str], program: str) -> Iterator[bytes]:
    """What `pg_dump` writes of definitions and rows, as of the snapshot of this transaction."""
    schema, snapshot = connection.execute(
        sa.text("SELECT quote_ident(current_schema()), pg_export_snapshot()")
    ).one()
    options = ["--no-owner", "--no-privileges", "--section=pre-data", "--section=data"]
    chosen = [f"--table={schema}.{quoted(name)}" for name in tables]
    session = _driver(connection).info
    command = [program, *options, f"--snapshot={snapshot}", *chosen, f"--dbname={session.dsn}"]
    secret = {"PGPASSWORD": session.password} if session.password else {}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=os.environ | secret)
        with process:
            while chunk := process.stdout.read(1 << 18) if process.stdout else b"":
                yield chunk
        if process.returncode:
            errors.seek(0)
            why = errors.read(500).decode(errors="replace").strip()
            raise ExpectedError(f"pg_dump could not read the database: {why}")


def _by_copy(connection: sa.Connection, tables: Sequence[str]) -> Iterator[bytes]:
    """The same from the catalog and by COPY."""
    for name in tables:
        table, before, columns, after = quoted(name), [], [], []
        for row in connection.execute(sa.text(COLUMNS), {"table": name}):
            columns.append(_column(row))
            if row.sequence is None:
                continue
            sequence = quoted(row.sequence)
            place = connection.execute(sa.text(f"SELECT last_value, is_called FROM {sequence}")).one()
            if not row.attidentity:
                before.append(f"CREATE SEQUENCE {sequence}")
                after.append(f"ALTER SEQUENCE {sequence} OWNED BY {table}.{quoted(row.attname)}")
            found = f"pg_get_serial_sequence('{table}', '{row.attname}')"
            after.append(f"SELECT setval({found}, {place.last_value}, {place.is_called})")
        checks = "".join(connection.scalars(sa.text(CHECKS), {"table": name}))
        yield _written(*before, f"CREATE TABLE {table} ({', '.join(columns)}{checks})")
        yield f"COPY {table} FROM stdin;\n".encode()
        with _driver(connection).cursor() as cursor, cursor.copy(f"COPY {table} TO STDOUT") as copy:
            yield from map(bytes, copy)
        yield b"\\.\n" + _written(*after)


def _column(row: sa.Row[Any]) -> str:
    parts = [quoted(row.attname), row.kind]
    if row.attgenerated:
        parts.append(f"GENERATED ALWAYS AS ({row.default_}) STORED")
    elif row.attidentity:
        parts.append("GENERATED " + ("ALWAYS" if row.attidentity == "a" else "BY DEFAULT") + " AS IDENTITY")
    elif row.default_ is not None:
        parts.append(f"DEFAULT {row.default_}")
    return " ".join(parts) + (" NOT NULL" if row.attnotnull else "")


class Script:
    """Runs a script of `dump` as it arrives, chunk by chunk, but for lines that begin as in LEFT_OUT."""

    def __init__(self, connection: sa.Connection) -> None:
        self._driver = _driver(connection)
        self._left, self._statements = b"", [b""]
        self._rows = ExitStack()
        self._copy: Any = None

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *failed: Any) -> None:
        self._rows.__exit__(*failed)
        if failed == (None, None, None):
            self._run()

    def write(self, chunk: bytes) -> None:
        """Takes the next part of the script."""
        *lines, self._left = (self._left + chunk).split(b"\n")
        rows: list[bytes] = []
        for line in lines:
            if self._copy is not None and line != b"\\.":
                rows.append(line + b"\n")
            elif self._copy is not None:
                self._copy.write(b"".join(rows))
                self._rows.close()
                self._copy, rows = None, []
            elif line.startswith(b"COPY ") and line.endswith(b" FROM stdin;"):
                self._run()
                self._copy = self._rows.enter_context(
                    self._rows.enter_context(self._driver.cursor()).copy(line)
                )
            elif not line.startswith(LEFT_OUT):
                self._statements.append(line + b"\n")
        if rows:
            self._copy.write(b"".join(rows))

    def _run(self) -> None:
        self._driver.execute(b"".join(self._statements))  # as it is: a % in it is no parameter
        self._statements.clear()


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def be_patient(connection: sa.Connection) -> None:
    """Lets this transaction take as long as a backup or a restore needs."""
    for name, limit in PATIENT.items():
        connection.exec_driver_sql(f"SET LOCAL {name} = '{limit}'")


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection
