"""Databases as bytes and back, each as of one moment: PostgreSQL as a script of SQL, SQLite as its file.

`pg_dump` writes the script where it can (`_pg_dump`); else the definitions come from the catalog and the rows from COPY. `psql`
runs it too. Triggers, views, grants and row security of the shop's own are not part of it; ours are installed by an upgrade.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

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
THESE = "(SELECT to_regclass(quote_ident(n)) FROM unnest(CAST(:tables AS text[])) n)"
CONSTRAINTS = f"""
SELECT 'ALTER TABLE ' || conrelid::regclass || ' ADD CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE conrelid IN {THESE} AND (contype IN ('p', 'u', 'x') OR contype = 'f' AND confrelid IN {THESE})
ORDER BY contype = 'f', contype <> 'p', conname
"""
INDEXES = f"""
SELECT replace(pg_get_indexdef(i.indexrelid), ' ON ' || quote_ident(current_schema()) || '.', ' ON ')
FROM pg_index i WHERE i.indrelid IN {THESE} AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid)
ORDER BY i.indexrelid
"""
ENUMS = """
SELECT 'DO $midas$ BEGIN CREATE TYPE ' || quote_ident(t.typname) || ' AS ENUM (' ||
       string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) ||
       '); EXCEPTION WHEN duplicate_object THEN NULL; END $midas$'
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = current_schema() GROUP BY t.typname ORDER BY t.typname
"""
PATIENT = {"lock_timeout": "5s", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
PUBLIC = "public"
LEFT_OUT = (b"\\", b"SET ", b"SELECT pg_catalog.set_config('search_path'")
"""How lines of `pg_dump` begin that are for psql: our sessions are pinned, and older servers do not know every setting."""
SCRATCH = ".midas-scratch-"
CHUNK = 1 << 18


def tables_of(connection: sa.Connection) -> list[str]:
    """The tables of the current schema of PostgreSQL."""
    query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
    return list(connection.scalars(sa.text(query)))


def be_patient(connection: sa.Connection) -> None:
    """Lets this transaction of PostgreSQL take as long as a backup or a restore needs."""
    for name, limit in PATIENT.items():
        connection.exec_driver_sql(f"SET LOCAL {name} = '{limit}'")


def dump(connection: sa.Connection, tables: Sequence[str]) -> Iterator[bytes]:
    """Those tables and their rows, in one transaction's snapshot, as a script that makes them again; foreign keys
    only among them. Raises ExpectedError."""
    be_patient(connection)
    yield _written(*connection.scalars(sa.text(ENUMS)))
    if tables and (program := _pg_dump(connection)) is not None:  # named no table, it dumps all
        yield from _by_pg_dump(connection, tables, program)
    else:
        for name in tables:
            yield from _table(connection, name)
    for query in (CONSTRAINTS, INDEXES):
        yield _written(*connection.scalars(sa.text(query), {"tables": list(tables)}))


def _pg_dump(connection: sa.Connection) -> str | None:
    """The program, where it is installed and not older than the server; it names the schema, which must be the usual one."""
    program, schema = shutil.which("pg_dump"), connection.scalar(sa.text("SELECT current_schema()"))
    if program is None or schema != PUBLIC:
        return None
    reported = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    major = re.search(r"\d+", reported)
    return program if major and int(major[0]) >= _driver(connection).info.server_version // 10_000 else None


def _by_pg_dump(connection: sa.Connection, tables: Sequence[str], program: str) -> Iterator[bytes]:
    moment, session = connection.scalar(sa.text("SELECT pg_export_snapshot()")), _driver(connection).info
    options = ["--no-owner", "--no-privileges", "--section=pre-data", "--section=data", "--encoding=UTF8"]
    chosen = [f"--table={PUBLIC}.{quoted(name)}" for name in tables]
    command = [program, *options, *chosen, f"--snapshot={moment}", f"--dbname={session.dsn}"]
    secret = {"PGPASSWORD": session.password} if session.password else {}
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=os.environ | secret
        ) as process:
            yield from chunks_of(process.stdout) if process.stdout else ()
        if process.returncode:
            errors.seek(0)
            why = errors.read(500).decode(errors="replace").strip()
            raise ExpectedError(f"pg_dump could not read the database: {why}")
    yield _written(f"SET search_path = {PUBLIC}")  # which pg_dump empties


def _table(connection: sa.Connection, name: str) -> Iterator[bytes]:
    table, before, columns, after = quoted(name), [], [], []
    for row in connection.execute(sa.text(COLUMNS), {"table": name}):
        made = ""
        if row.attgenerated:
            made = f" GENERATED ALWAYS AS ({row.default_}) STORED"
        elif row.attidentity:
            made = f" GENERATED {'ALWAYS' if row.attidentity == 'a' else 'BY DEFAULT'} AS IDENTITY"
        elif row.default_ is not None:
            made = f" DEFAULT {row.default_}"
        columns.append(f"{quoted(row.attname)} {row.kind}{made}{' NOT NULL' if row.attnotnull else ''}")
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


@contextmanager
def script(connection: sa.Connection) -> Iterator[Callable[[bytes], None]]:
    """What runs a script of `dump` as it arrives, chunk by chunk, but for lines that begin as in LEFT_OUT."""
    driver, left, statements, copy = _driver(connection), b"", [b""], None

    def run() -> None:
        driver.execute(b"".join(statements))  # as it is: a % in it is no parameter
        statements.clear()

    with ExitStack() as stack:

        def write(chunk: bytes) -> None:
            nonlocal left, copy
            *lines, left = (left + chunk).split(b"\n")
            rows: list[bytes] = []
            for line in lines:
                if copy is not None and line != b"\\.":
                    rows.append(line + b"\n")
                elif copy is not None:
                    copy.write(b"".join(rows))
                    stack.close()
                    copy, rows = None, []
                elif line.startswith(b"COPY ") and line.endswith(b" FROM stdin;"):
                    run()
                    copy = stack.enter_context(stack.enter_context(driver.cursor()).copy(line))
                elif not line.startswith(LEFT_OUT):
                    statements.append(line + b"\n")
            if copy is not None and rows:
                copy.write(b"".join(rows))

        yield write
    run()


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _written(*statements: str) -> bytes:
    return "".join(f"{statement};\n" for statement in statements).encode()


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


@contextmanager
def snapshot(path: Path) -> Iterator[IO[bytes]]:
    """A copy of a file of SQLite as of one moment, open to be read; it has no name in the file system."""
    number, name = tempfile.mkstemp(prefix=SCRATCH, dir=path.parent)  # for its owner alone
    with open(number, "rb") as copy, closing(sqlite3.connect(name)) as target:
        os.unlink(name)
        target.execute("PRAGMA journal_mode=OFF")
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as source:
            source.backup(target)
        target.commit()
        copy.seek(0)
        yield copy


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """What is in an open file."""
    while chunk := file.read(CHUNK):
        yield chunk


@contextmanager
def scratch_file(folder: Path) -> Iterator[Path]:
    """A new empty file for its owner alone, removed at the end; those that killed processes left go too."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in folder.glob(f"{SCRATCH}????????"):
        with suppress(OSError), open(left, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(left)
    number, name = tempfile.mkstemp(prefix=SCRATCH, dir=folder)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield Path(name)
    finally:
        _remove(Path(name))
        os.close(number)


def _remove(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal", ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def replace_file(source: Path, target: Path) -> None:
    """Replaces or makes a database of SQLite in one transaction, also while other processes have it open. Raises
    sqlite3.DatabaseError where the source is damaged."""
    with suppress(FileExistsError):
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target, timeout=30)) as other:
        one.backup(other)
