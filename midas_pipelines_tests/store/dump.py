"""A database written out in full, so that two states of it can be compared."""

from __future__ import annotations

import re

from midas_pipelines.store.database import Database
from midas_pipelines_tests.shop import rows

_POSTGRESQL = """
SELECT 'column ' || c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
       || a.attnotnull::text || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r'
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
UNION ALL
SELECT 'constraint ' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
UNION ALL
SELECT 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()
UNION ALL
SELECT 'trigger ' || tgname, pg_get_triggerdef(oid)
FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'function ' || proname, pg_get_functiondef(oid) || coalesce(proacl::text, '')
FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
"""
_POSTGRESQL_WRITES = """
SELECT oid, xmin::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace
UNION ALL SELECT oid, xmin::text FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT oid, xmin::text FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
"""
# Column by column, since a column added later stands last in the text of its table.
_SQLITE = """
SELECT 'column ' || m.name || '.' || c.name, c.type || ' ' || c."notnull" || ' ' || coalesce(c.dflt_value, '') || ' ' || c.pk
FROM sqlite_master m, pragma_table_xinfo(m.name) c WHERE m.type = 'table'
UNION ALL
SELECT 'foreign key ' || m.name || '.' || f."from", f."table" || '.' || f."to" || ' ' || f.on_delete
FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'
UNION ALL
SELECT 'unique ' || m.name || ' ' || group_concat(c.name), i.origin
FROM sqlite_master m, pragma_index_list(m.name) i, pragma_index_info(i.name) c
WHERE m.type = 'table' AND i.origin <> 'c' GROUP BY m.name, i.name
UNION ALL
SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_master WHERE type IN ('index', 'trigger', 'view')
AND name NOT LIKE 'sqlite_autoindex%'
"""
_SQLITE_TABLES = "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
_CHECK = re.compile(r"(?:CONSTRAINT (\w+) )?CHECK \(([^()]*)\)")


def definitions(database: Database) -> dict[str, object]:
    """Every column, constraint, index, trigger and function by its name, as the database itself describes it."""
    if database.is_postgresql:
        return {str(name): text for name, text in rows(database, _POSTGRESQL)}
    found: dict[str, object] = {str(name): text for name, text in rows(database, _SQLITE)}
    for table, text in rows(database, _SQLITE_TABLES):
        found[f"checks {table}"] = sorted(_CHECK.findall(text))
    return found


def writes(database: Database) -> set[object]:
    """What changes when anything is defined again, even in the same words."""
    return set(rows(database, _POSTGRESQL_WRITES if database.is_postgresql else "PRAGMA schema_version"))


def contents(database: Database) -> dict[str, object]:
    """Every row of every table."""
    tables = {
        name.split(" ")[1].split(".")[0]
        for name in definitions(database)
        if name.startswith(("column", "table"))
    }
    return {table: rows(database, f"SELECT * FROM {table} ORDER BY 1") for table in tables}
