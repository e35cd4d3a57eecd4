"""Tables of PostgreSQL as text: their definitions from the catalog, their rows by COPY.

Triggers, views, grants and row security of the shop's own are not part of it; ours are installed again by an upgrade.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS kind, a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid) AS default_, a.attidentity, a.attgenerated,
       CASE WHEN c.relkind = 'S' THEN c.relname END AS sequence
FROM pg_attribute a
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_class c ON c.oid = to_regclass(pg_get_serial_sequence(a.attrelid::regclass::text, a.attname))
WHERE a.attrelid = to_regclass(quote_ident(:table)) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
CONSTRAINTS = """
SELECT quote_ident(conname) AS name, pg_get_constraintdef(oid) AS definition, contype, confrelid::regclass::text AS other
FROM pg_constraint WHERE conrelid = to_regclass(quote_ident(:table)) AND contype IN ('p', 'u', 'c', 'f', 'x')
ORDER BY contype = 'f', contype <> 'p', conname
"""
INDEXES = """
SELECT replace(pg_get_indexdef(i.indexrelid), ' ON ' || quote_ident(current_schema()) || '.', ' ON ')
FROM pg_index i WHERE i.indrelid = to_regclass(quote_ident(:table))
AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid) ORDER BY i.indexrelid
"""
ENUMS = """
SELECT 'CREATE TYPE ' || quote_ident(t.typname) || ' AS ENUM (' ||
       string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) || ')'
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = current_schema() GROUP BY t.typname ORDER BY t.typname
"""
PATIENT = {"lock_timeout": "5s", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}


@dataclass
class TableShape:
    """A table as statements: before its rows, after them, and after the rows of all tables."""

    name: str
    create: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)


def tables_of(connection: sa.Connection) -> list[str]:
    """The tables of the current schema."""
    query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
    return list(connection.scalars(sa.text(query)))


def enum_types(connection: sa.Connection) -> list[str]:
    """The statements that make the enumerations of the current schema."""
    return list(connection.scalars(sa.text(ENUMS)))


def shape_of(connection: sa.Connection, name: str, among: Sequence[str]) -> TableShape:
    """The statements that make a table again; foreign keys only to tables of `among`."""
    shape, table = TableShape(name), quoted(name)
    columns = []
    for row in connection.execute(sa.text(COLUMNS), {"table": name}):
        if row.sequence is not None:
            sequence = quoted(row.sequence)
            place = connection.execute(sa.text(f"SELECT last_value, is_called FROM {sequence}")).one()
            if not row.attidentity:
                shape.create.append(f"CREATE SEQUENCE {sequence}")
                shape.after.append(f"ALTER SEQUENCE {sequence} OWNED BY {table}.{quoted(row.attname)}")
            shape.last.append(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{row.attname}'), {place.last_value}, {place.is_called})"
            )
        columns.append(_column(row))
    shape.create.append(f"CREATE TABLE {table} ({', '.join(columns)})")
    for row in connection.execute(sa.text(CONSTRAINTS), {"table": name}):
        statement = f"ALTER TABLE {table} ADD CONSTRAINT {row.name} {row.definition}"
        if row.contype != "f":
            shape.after.append(statement)
        elif row.other.strip('"') in among:
            shape.last.append(statement)
    shape.after += connection.scalars(sa.text(INDEXES), {"table": name})
    return shape


def _column(row: sa.Row[Any]) -> str:
    parts = [quoted(row.attname), row.kind]
    if row.attgenerated:
        parts.append(f"GENERATED ALWAYS AS ({row.default_}) STORED")
    elif row.attidentity:
        parts.append("GENERATED " + ("ALWAYS" if row.attidentity == "a" else "BY DEFAULT") + " AS IDENTITY")
    elif row.default_ is not None:
        parts.append(f"DEFAULT {row.default_}")
    return " ".join(parts) + (" NOT NULL" if row.attnotnull else "")


def copy_out(connection: sa.Connection, name: str) -> Iterator[bytes]:
    """The rows of a table as COPY writes them."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {quoted(name)} TO STDOUT") as copy:
        for chunk in copy:
            yield bytes(chunk)


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def be_patient(connection: sa.Connection) -> None:
    """Lets this transaction take as long as a backup or a restore needs."""
    for name, limit in PATIENT.items():
        connection.exec_driver_sql(f"SET LOCAL {name} = '{limit}'")
