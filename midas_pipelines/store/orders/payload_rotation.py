"""Rotation of the payload key: wraps every payload again under the newest key, while everything runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.payload_vault import SEALED, PayloadUnreadable, Vault
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.tables import marketplace_orders

SEALED_TABLES = (marketplace_orders, marketplace_webhooks)
BLOCK = 200
"""Rows that one transaction wraps again."""


@dataclass
class Rotated:
    """Payloads wrapped again, and by table the rows that no key opens."""

    rewrapped: int = 0
    unreadable: dict[str, list[int]] = field(default_factory=dict)


def payloads_by_key(database: Database) -> Counter[str]:
    """How many payloads each key has sealed, by its id."""
    counted: Counter[str] = Counter()
    start, length = len(SEALED) + 1, 8
    for table in SEALED_TABLES:
        key = sa.func.substr(table.c.payload, start, length)
        query = sa.select(key, sa.func.count()).where(table.c.payload.startswith(SEALED)).group_by(key)
        with database.reading() as connection:
            counted.update({row[0]: row[1] for row in connection.execute(query)})
    return counted


def rewrap_payloads(database: Database, vault: Vault) -> Rotated:
    """Wraps every payload that another key than the newest has sealed, a block a transaction.

    What is sealed meanwhile with an older key is wrapped in a further pass. Stopped at any point, the next call goes on.
    """
    done = Rotated()
    for table in SEALED_TABLES:
        found = -1
        while found:
            found = _pass(database, vault, table, done)
    return done


def _pass(database: Database, vault: Vault, table: sa.Table, done: Rotated) -> int:
    """Goes through the table once; returns how many payloads it wrapped again."""
    newest, before, last = f"{SEALED}{vault.ring.newest().key_id}:", done.rewrapped, 0
    old = sa.and_(table.c.payload.startswith(SEALED), ~table.c.payload.startswith(newest))
    unreadable: list[int] = []
    while True:
        query = sa.select(table.c.id, table.c.payload).where(old, table.c.id > last).order_by(table.c.id)
        with database.writing() as connection:
            rows = connection.execute(query.limit(BLOCK)).all()
            for row in rows:
                last = row.id
                try:
                    sealed = vault.rewrap(row.payload)
                except PayloadUnreadable:
                    unreadable.append(row.id)
                    continue
                same = sa.and_(
                    table.c.id == row.id, table.c.payload == row.payload
                )  # not edited or erased meanwhile
                done.rewrapped += connection.execute(
                    sa.update(table).where(same).values(payload=sealed)
                ).rowcount
        if len(rows) < BLOCK:
            done.unreadable[table.name] = unreadable
            return done.rewrapped - before
