"""The audit log lets go of old rows, in blocks, and of no young one whoever asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import audit
from midas_pipelines.store.migrate import upgrade
from midas_pipelines.store.schema.gateway_tables import gateway_audit
from midas_pipelines.store.schema.version import version
from midas_pipelines_tests.shop import rows, run


def note(shop: Database, actor: str, age_days: int) -> None:
    at = datetime.now(UTC) - timedelta(days=age_days)
    with shop.writing() as connection:
        connection.execute(sa.insert(gateway_audit).values(at=at, event="asked", actor=actor, action="POST"))


def actors(shop: Database) -> list[str]:
    return [row.actor for row in rows(shop, "SELECT actor FROM gateway_audit")]


def test_old_rows_are_forgotten_until_all_blocks_are_done(shop: Database) -> None:
    for _ in range(5):
        note(shop, "old", 401)
    note(shop, "young", 399)
    assert audit.delete_old_audit_rows(shop, days=400, block=2) == 5
    assert actors(shop) == ["young"]


@pytest.mark.parametrize(("age", "refused"), [(89, True), (91, False)])
def test_a_young_row_stays_and_none_is_ever_changed(shop: Database, age: int, refused: bool) -> None:
    note(shop, "somebody", age)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        run(shop, "UPDATE gateway_audit SET actor = 'nobody'")
    if refused:
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            audit.delete_old_audit_rows(shop, days=80)
    else:
        assert audit.delete_old_audit_rows(shop, days=80) == 1
    assert actors(shop) == (["somebody"] if refused else [])


def test_a_database_with_the_stricter_trigger_of_before_is_brought_up(shop: Database) -> None:
    where = " ON gateway_audit" if shop.is_postgresql else ""
    run(shop, f"DROP TRIGGER midas_audit_young_kept{where}")
    run(
        shop,
        "CREATE TRIGGER midas_audit_kept BEFORE UPDATE OR DELETE ON gateway_audit FOR EACH ROW "
        "EXECUTE FUNCTION midas_refuse_change()"
        if shop.is_postgresql
        else "CREATE TRIGGER midas_audit_undeleted BEFORE DELETE ON gateway_audit "
        "BEGIN SELECT RAISE(ABORT, 'kept'); END",
    )
    assert not version(shop).ready
    assert upgrade(shop).ready
    note(shop, "old", 401)
    assert audit.delete_old_audit_rows(shop, days=400) == 1
