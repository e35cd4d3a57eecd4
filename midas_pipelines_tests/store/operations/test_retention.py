"""Old rows that are done with are deleted in small blocks; what is young, open or decided by a person stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.retention import KEPT, delete_old
from midas_pipelines_tests.shop import rows

NOW = datetime.now(UTC)
OLD, YOUNG = NOW - timedelta(days=31), NOW - timedelta(days=29)
EVENT = {"type": "order.created", "payload": "-"}
ALERT = {"kind": "k", "text": "t", "sent_at": OLD}
LOG = {"kind": "products", "scope": "full"}
CALL = {"endpoint": "GET /orders", "attempt": 1}
STAYS: dict[str, list[dict[str, Any]]] = {
    "webhooks": [
        EVENT | {"received_at": OLD, "processed_at": OLD, "outcome": "quarantined"},
        EVENT | {"received_at": OLD},
        EVENT | {"received_at": OLD, "processed_at": YOUNG, "outcome": "applied"},
    ],
    "sync_logs": [LOG | {"started_at": OLD}, LOG | {"started_at": YOUNG, "outcome": "done"}],
    "api_errors": [CALL | {"created_at": YOUNG}],
    "order_logs": [
        {"marketplace_order_id": "A", "step": "dismissed", "created_at": OLD},
        {"marketplace_order_id": "A", "step": "resolved", "created_at": OLD},
        {"marketplace_order_id": "A", "step": "imported", "created_at": YOUNG},
    ],
    "alerts": [
        ALERT | {"created_at": OLD},
        ALERT | {"created_at": OLD, "cleared_at": YOUNG},
    ],
}
GOES: dict[str, dict[str, Any]] = {
    "webhooks": EVENT | {"received_at": OLD, "processed_at": OLD, "outcome": "applied"},
    "sync_logs": LOG | {"started_at": OLD, "outcome": "failed"},
    "api_errors": CALL | {"created_at": OLD},
    "order_logs": {"marketplace_order_id": "A", "step": "imported", "created_at": OLD},
    "alerts": ALERT | {"created_at": OLD, "cleared_at": OLD},
}
NAMED = {"webhooks": "webhook_id", "alerts": "subject"}
"""A column that tells rows of a kind apart, where one has to."""


def add(shop: Database, name: str, found: list[dict[str, Any]], first: int) -> None:
    """Adds these rows, each under a name of its own."""
    table = KEPT[name].added.table
    with shop.writing() as connection:
        for number, row in enumerate(found, first):
            named = {NAMED[name]: f"n{number}"} if name in NAMED else {}
            connection.execute(sa.insert(table).values(row | named))


@pytest.mark.parametrize("name", GOES)
def test_what_is_done_with_and_old_goes_in_small_blocks(shop: Database, name: str) -> None:
    table = str(KEPT[name].added.table.name)
    add(shop, name, STAYS[name][:2], 0)
    add(shop, name, [GOES[name]] * 5, 10)
    add(shop, name, STAYS[name][2:], 20)
    commits: list[object] = []
    sa.event.listen(shop.engine, "commit", commits.append)
    assert delete_old(shop, name, days=30, block=2) == 5
    assert len(commits) >= 3
    assert len(rows(shop, f"SELECT id FROM {table}")) == len(STAYS[name])
    assert delete_old(shop, name, days=30, block=2) == 0


def test_each_kind_has_a_setting_of_its_own() -> None:
    assert {name for name in KEPT if f"keep_{name}_days" in Settings.model_fields} == set(KEPT)
