"""The snapshots as Dagster makes and loads them: a file a day, in a folder or in a bucket, and the figure that follows."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from midas_pipelines.cli.dagster.running import QUIET
from midas_pipelines.definitions import defs
from midas_pipelines.defs.catalog.assets import catalog_kept_its_size, catalog_snapshot
from midas_pipelines.defs.listings.reconciliation import listing_snapshot
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib.partitions import SHARDS
from midas_pipelines.lib.snapshot_io import TICK, SnapshotIO
from midas_pipelines.settings import VARIABLES, load_settings
from midas_pipelines.sync.snapshots.files import CATALOG, LISTING, NoSnapshot, Snapshots, place, spool
from midas_pipelines.sync.snapshots.take import snapshot_catalog, snapshot_listing
from midas_pipelines_tests.defs.conftest import Execute, evaluation, failure, metadata
from midas_pipelines_tests.shop import add_product, value
from midas_pipelines_tests.sync.world import World

EVERY = SHARDS.get_partition_keys()
RESOURCES = {"midas": MidasResource(), "snapshots": SnapshotIO()}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of an empty bucket of moto's server on this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        boto3.client("s3").create_bucket(Bucket="midas")
        yield "s3://midas/snapshots"
    server.stop()


@pytest.mark.parametrize(
    ("asset", "field", "elsewhere"),
    [
        (catalog_snapshot, "database_url", "sqlite:///another.db"),
        (listing_snapshot, "fourseller_seller_id", "another"),
    ],
)
def test_a_run_for_another_shop_than_the_environments_replaces_no_snapshot(
    environment: World,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    asset: dg.AssetsDefinition,
    field: str,
    elsewhere: str,
) -> None:
    variable = VARIABLES[field]
    midas = MidasResource(**{field: os.environ[variable]})  # as in the launchpad
    known = {"instance": instance, "resources": RESOURCES | {"midas": midas}}
    assert dg.materialize([asset], **known).success
    monkeypatch.setenv(variable, elsewhere)
    (kept,) = Snapshots.of(load_settings()).root.glob("*/*")
    before = kept.read_bytes()
    result = dg.materialize([asset], raise_on_error=False, **known)
    assert failure(result).startswith(f"The resource midas has another {variable} than the environment")
    assert kept.read_bytes() == before


def test_the_notebook_of_the_docs_finds_what_the_check_finds(
    environment: World, execute: Execute, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [add_product(environment.database, sku=f"A-{number}") for number in range(6)]
    environment.full()
    shown = {product["sku"]: product for product in environment.sandbox.state.products.values()}
    shown["A-0"]["price"] = "99.00"
    shown["A-1"]["title"] = "Another"
    environment.set(ids[2], stock_quantity=1)  # waits to be pushed
    found = evaluation(execute("consistency_check"), "consistent").metadata
    page = (Path(__file__).parents[3] / "docs" / "snapshots.md").read_text()
    notebook = page.partition("```python\n")[2].partition("```")[0]
    day, folder = f"{load_settings().today():%Y-%m-%d}", load_settings().snapshots_place()
    capsys.readouterr()
    exec(notebook.replace("2026-11-27", day).replace('"snapshots/', f'"{folder}/'), {})
    share, table = capsys.readouterr().out.split("\n", 1)
    assert (found["changing"].value, found["consistency"].value) == (1, float(share))
    assert [name in table for name in shown] == [True, True, False, False, False, False]
    assert found["failed"].value == 2


def test_a_run_writes_a_file_a_day_that_pandas_reads(environment: World, execute: Execute) -> None:
    add_product(environment.database, sku="A-1", stock_quantity=7, price=Decimal("10.00"))
    environment.full()
    told = metadata(execute("consistency_check"), LISTING)
    frame = pd.read_parquet(told["path"])
    assert told["path"].endswith(f"{LISTING}/{load_settings().today():%Y-%m-%d}.parquet")
    assert (told["dagster/row_count"], told["is_complete"]) == (1, True)
    assert frame[["sku", "price", "quantity"]].to_dict("records") == [
        {"sku": "A-1", "price": Decimal("10.0000"), "quantity": 7}
    ]


@pytest.mark.parametrize(("job", "kind"), [("full_sync", "products"), ("consistency_check", "reconcile")])
def test_a_sync_counts_the_pages_that_its_run_read_for_it(
    environment: World, execute: Execute, job: str, kind: str
) -> None:
    add_product(environment.database)
    environment.full()
    environment.sandbox.calls.clear()
    execute(job)
    counted = "SELECT requests FROM fourseller_sync_logs WHERE kind = :kind ORDER BY id DESC LIMIT 1"
    sent = sum(count for (method, _), count in environment.sandbox.calls.counts.items() if method == "GET")
    assert value(environment.database, counted, kind=kind) == sent >= 1


def test_a_catalogue_that_lost_half_its_items_is_a_warning_with_numbers(
    environment: World, instance: dg.DagsterInstance
) -> None:
    for _ in range(2):
        add_product(environment.database)
    kept, yesterday = Snapshots.of(load_settings()), load_settings().today() - timedelta(days=1)
    taken, _ = snapshot_catalog(environment.sync_context(), "x")
    place(taken.path, kept.path(CATALOG, load_settings().today()))
    for before, passed in ((3, True), (4, False)):
        with kept.path(CATALOG, yesterday).open("wb") as target:
            pd.DataFrame({"sku": ["A"] * before}).to_parquet(target)
        only = dg.AssetSelection.checks(catalog_kept_its_size)
        both = [catalog_snapshot, catalog_kept_its_size]
        run = dg.materialize(both, instance=instance, resources=RESOURCES, selection=only)
        found = evaluation(run, "catalog_kept_its_size")
        assert (found.passed, found.severity) == (passed, dg.AssetCheckSeverity.WARN)
        assert found.metadata["checked"].value == 2
    offenders = found.metadata["offenders"]
    assert isinstance(offenders, dg.TableMetadataValue)
    (row,) = offenders.records
    assert row.data == {"day": f"{yesterday:%Y-%m-%d}", "items": "4", "now": "2"}


def test_snapshots_in_a_bucket_are_written_loaded_and_removed(
    environment: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    monkeypatch.setenv("MIDAS_SNAPSHOTS", bucket)
    for number in range(3):
        add_product(environment.database, sku=f"A-{number}")
    environment.full()

    @dg.asset(
        ins={name: dg.AssetIn(input_manager_key="snapshots") for name in (CATALOG, LISTING)},
    )
    def skus(catalog_snapshot, listing_snapshot) -> dg.MaterializeResult:  # type: ignore[no-untyped-def]
        both = catalog_snapshot.merge(listing_snapshot, on="fourseller_product_id")
        return dg.MaterializeResult(metadata={"skus": sorted(both["sku_x"])})

    assets = [catalog_snapshot, listing_snapshot, skus]
    result = dg.materialize(assets, instance=instance, resources=RESOURCES)
    (event,) = result.asset_materializations_for_node("skus")
    assert event.metadata["skus"].value == sorted(environment.wanted)
    kept = Snapshots.of(load_settings())
    assert (kept.days(CATALOG), kept.days(LISTING)) == ([load_settings().today()], [load_settings().today()])
    assert kept.remove_before(date(2999, 1, 1), date(2999, 1, 1)) == 2
    assert kept.days(CATALOG) == []


def test_the_figure_follows_from_the_two_files_and_names_who_differs(
    environment: World, execute: Execute
) -> None:
    for sku in ("A-1", "A-2", "A-3", "A-4"):
        add_product(environment.database, sku=sku, stock_quantity=5)
    environment.full()
    state = environment.sandbox.state.products
    by_sku = {product["sku"]: product for product in state.values()}
    by_sku["A-1"]["price"] = "99.00"
    by_sku["A-2"]["title"] = "Another"
    del state[by_sku["A-3"]["id"]]
    found = evaluation(execute("consistency_check"), "consistent")
    assert (found.passed, found.metadata["checked"].value, found.metadata["equal"].value) == (False, 4, 1)
    assert found.metadata["consistency"].value == 0.25
    offenders = found.metadata["offenders"]
    assert isinstance(offenders, dg.TableMetadataValue)
    assert [(row.data["sku"], row.data["field"]) for row in offenders.records] == [
        ("A-1", "price"),
        ("A-2", "content"),
        ("A-3", "listing"),
    ]


def test_a_day_without_a_snapshot_is_a_sentence_with_the_nearest_days(environment: World) -> None:
    kept = Snapshots.of(load_settings())
    with pytest.raises(NoSnapshot, match="none is kept yet"):
        kept.read(CATALOG, load_settings().today())
    for day in (date(2026, 10, 1), date(2026, 10, 20), date(2026, 11, 3)):
        file = kept.path(CATALOG, day)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with pytest.raises(NoSnapshot, match="the nearest days that have one: 2026-10-20 and 2026-11-03"):
        kept.read(CATALOG, date(2026, 11, 1))


def test_the_runs_of_a_backfill_share_one_read_and_those_of_another_read_again(
    environment: World, instance: dg.DagsterInstance
) -> None:
    for _ in EVERY:
        add_product(environment.database)
    environment.full()
    job = defs.resolve_job_def("full_sync")

    def read(backfill: str, shard: str) -> tuple[int, bool]:
        """How many products the run shows, and whether it sent requests to read them."""
        tags = {"dagster/backfill": backfill}
        run = job.execute_in_process(
            instance=instance, run_config=dict(QUIET), partition_key=shard, tags=tags, raise_on_error=False
        )
        assert run.success
        assert metadata(run, "fourseller_listings")["scanned"] == 1
        listed = metadata(run, LISTING)
        catalog = metadata(run, CATALOG)
        assert (catalog["dagster/row_count"], catalog["out_of_stock"]) == (len(EVERY), 0)
        return listed["dagster/row_count"], listed["requests"] > 0

    assert [read("one", shard) for shard in ("01", "02")] == [(len(EVERY), True), (len(EVERY), False)]
    assert read("two", "03") == (len(EVERY), True)


def test_shards_alone_share_one_read_whatever_the_snapshot_of_the_day_is(
    environment: World, instance: dg.DagsterInstance, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in EVERY:
        add_product(environment.database)
    environment.full()
    job, tags = defs.resolve_job_def("full_sync"), {TICK: "night"}

    def pages(shard: str | None, *assets: str) -> int:
        """How many requests that run sent to read."""
        environment.sandbox.calls.clear()
        keys = {dg.AssetKey(asset) for asset in assets}
        run = job.get_subset(asset_selection=keys).execute_in_process(
            instance=instance, run_config=dict(QUIET), partition_key=shard, tags=tags
        )
        assert run.success
        return sum(
            count for (method, _), count in environment.sandbox.calls.counts.items() if method == "GET"
        )

    earlier = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    monkeypatch.setattr(time, "sleep", lambda _: instance.delete_run(earlier.run_id))  # as it ends
    assert pages("01", "fourseller_listings") > 0
    assert not instance.has_run(earlier.run_id)  # waited for
    assert pages("02", "fourseller_listings") == 0
    execute("consistency_check")
    assert pages("03", "fourseller_listings") == 0
    assert pages(None, LISTING) == 0
    kept = Snapshots.of(load_settings())
    assert kept.facts(LISTING, kept.days(LISTING)[-1])["run_set"].endswith("_night")  # the day's too
    today = load_settings().today()
    assert [kept.remove_before(today, day) for day in (today, today + timedelta(days=1))] == [0, 1]
    assert kept.days(LISTING) == [today]


def test_a_read_that_ended_early_is_not_shared(environment: World, instance: dg.DagsterInstance) -> None:
    add_product(environment.database)
    environment.full()
    job = defs.resolve_job_def("full_sync")
    job = job.get_subset(asset_selection={dg.AssetKey("fourseller_listings")})
    kept, run_set = Snapshots.of(load_settings()), f"{load_settings().today()}_night"
    taken = asyncio.run(snapshot_listing(environment.sync_context(), run_set))
    facts = taken.facts | {"counts": {"requests": 1, "is_complete": False}, "run_id": "another"}
    taken.path.unlink()
    place(spool(LISTING, [], facts).path, kept.path(LISTING, run_set))
    job.execute_in_process(
        instance=instance, run_config=dict(QUIET), partition_key="01", tags={TICK: "night"}
    )
    assert kept.facts(LISTING, run_set)["counts"]["is_complete"]
