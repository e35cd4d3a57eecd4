"""A failed ERROR check and a late asset reach staff, and the alerts end with their cause."""

from __future__ import annotations

import time
from datetime import timedelta

import dagster as dg

from midas_pipelines.definitions import defs
from midas_pipelines.defs.operations.health import failed_checks, late_assets
from midas_pipelines.lib.runs.tags import run_tags
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.world import World

LEDGER = "inventory_levels:ledger_explains_stock"
KEYS = [dg.AssetCheckKey(dg.AssetKey("inventory_levels"), "ledger_explains_stock")]
UNSEEN = [dg.AssetCheckKey(dg.AssetKey("order_poll"), "order_totals_add_up")]


def test_a_broken_ledger_is_named_until_it_adds_up_again(environment: World) -> None:
    add_product(environment.database, sku="A-1", stock_quantity=3)
    job = defs.resolve_job_def("inventory_push")
    with dg.DagsterInstance.ephemeral() as instance:

        def evaluated() -> tuple[dict[str, str], set[str]]:
            job.execute_in_process(instance=instance, raise_on_error=False, tags=run_tags("inventory_push"))
            return failed_checks(instance, KEYS + UNSEEN)

        run(environment.database, "UPDATE inventory_changes SET delta = delta + 1")
        failed, unknown = evaluated()
        assert "1 items" in failed[LEDGER]
        assert "A-1" in failed[LEDGER]
        assert unknown == {"order_poll:order_totals_add_up"}
        run(environment.database, "UPDATE inventory_changes SET delta = delta - 1")
        assert evaluated()[0] == {}
        longest = {"inventory_levels": timedelta(minutes=6), "order_poll": timedelta(minutes=6)}
        assert late_assets(instance, longest, time.time()) == {}
        assert set(late_assets(instance, longest, time.time() + 3600)) == {"inventory_levels"}
