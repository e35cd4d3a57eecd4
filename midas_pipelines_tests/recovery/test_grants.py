"""The rights that `midas db grants` prints are enough to run the system, and no more than it uses to change history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from midas_pipelines.lib.doctor.report import shop_lines
from midas_pipelines.recovery.backup import create_backup
from midas_pipelines.recovery.restore import broken_invariants
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import AuditEntry, note_audit
from midas_pipelines.store.gateway.keys import Role, create_key, find_caller
from midas_pipelines.store.schema.version import require_upgraded
from midas_pipelines.sync.orders.status.status_sync import sync_statuses
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines_tests.cli.conftest import Midas, midas  # noqa: F401 - a fixture
from midas_pipelines_tests.copies import connect
from midas_pipelines_tests.shop import run, value
from midas_pipelines_tests.sync.world import World

ROLE = "midas_app"


@pytest.fixture
def restricted(safe: World, settings: dict[str, str], midas: Midas) -> Iterator[Database]:  # noqa: F811
    """The shop's database as the restricted role sees it."""
    with safe.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as owner:
        owner.exec_driver_sql(f"DROP ROLE IF EXISTS {ROLE}")
        owner.exec_driver_sql(f"CREATE ROLE {ROLE} LOGIN")
        for statement in midas("db", "grants", ROLE, **settings).output.splitlines():
            owner.exec_driver_sql(statement)
        url = safe.database.engine.url.set(username=ROLE).render_as_string(hide_password=False)
        with connect(url) as database:
            yield database
        owner.exec_driver_sql(f"DROP OWNED BY {ROLE}")
        owner.exec_driver_sql(f"DROP ROLE {ROLE}")


def broken_lines(database: Database) -> dict[str, str]:
    """What the doctor finds wrong with the shop's database."""
    return {line.check: line.found for line in shop_lines(database) if line.state == "wrong"}


@pytest.mark.only_on("postgresql")
def test_the_doctor_names_a_right_that_is_lacking(safe: World, restricted: Database) -> None:
    run(safe.database, f"REVOKE UPDATE (stock_quantity) ON products FROM {ROLE}")
    run(safe.database, f"REVOKE SELECT ON categories FROM {ROLE}")
    lacking = "Our user lacks SELECT on categories, UPDATE (stock_quantity) on products."
    assert broken_lines(restricted) == {"rights": lacking}


@pytest.mark.only_on("postgresql")  # SQLite knows no roles
def test_the_system_runs_as_a_role_with_these_rights_alone(safe: World, restricted: Database) -> None:
    safe.database = restricted
    require_upgraded(restricted)
    safe.set(1, stock_quantity=7)
    safe.place(("A", 3), ("B", 1), id="as-the-role")
    safe.full()
    safe.import_orders()
    asyncio.run(sync_statuses(safe.sync_context()))
    asyncio.run(reconcile(safe.sync_context()))
    safe.inventory()
    assert value(restricted, "SELECT count(*) FROM orders") == 2
    assert sum(broken_invariants(restricted).values()) == 0
    with restricted.writing() as connection:
        note_audit(connection, AuditEntry("someone", "POST"), "asked")
        _, key = create_key(connection, name="x", role=Role.VIEWER)
        assert find_caller(connection, key) is not None
    create_backup(safe.settings, restricted, "ann")
    assert broken_lines(restricted) == {}
    for forbidden in (
        "UPDATE gateway_audit SET actor = 'x'",
        "TRUNCATE gateway_audit",
        "DELETE FROM inventory_changes",
        "ALTER TABLE gateway_audit DISABLE TRIGGER USER",
        "UPDATE products SET price = 1",
        "DROP TABLE orders",
    ):
        with pytest.raises(sa.exc.DBAPIError, match=r"permission denied|must be owner"):
            run(restricted, forbidden)
