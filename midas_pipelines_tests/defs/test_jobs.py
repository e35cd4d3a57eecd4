"""The workflows as Dagster runs them: what their assets tell, what their checks find, how they fail."""

from __future__ import annotations

import pytest

from midas_pipelines.definitions import defs
from midas_pipelines.defs.resources import failure_of
from midas_pipelines.fourseller.errors import BadCredentials
from midas_pipelines.store.operations.sync_log import newest_sync
from midas_pipelines_tests.defs.conftest import Execute, checks, evaluation, failure, metadata
from midas_pipelines_tests.shop import add_product, add_variant, amend
from midas_pipelines_tests.sync.world import World


def test_a_full_sync_tells_what_it_did_and_its_snapshot_what_cannot_be_listed(
    environment: World, execute: Execute
) -> None:
    add_product(environment.database, stock_quantity=0)
    add_product(environment.database, sku=None)
    add_variant(environment.database, add_product(environment.database))
    result = execute("full_sync")
    told = metadata(result, "fourseller_listings")
    assert result.success
    assert (told["scanned"], told["created"], told["quarantined"]) == (3, 2, 1)
    assert "no SKU" in told["problems"].records[0].data["reason"]
    told = metadata(result, "catalog_snapshot")
    assert (told["dagster/row_count"], told["out_of_stock"], told["cannot_be_listed"]) == (3, 1, 1)


def test_a_snapshot_of_an_empty_shop_has_no_rows(environment: World, execute: Execute) -> None:
    assert metadata(execute("full_sync"), "catalog_snapshot")["dagster/row_count"] == 0


def test_a_plan_sends_nothing(environment: World, execute: Execute) -> None:
    add_product(environment.database, sku="A-1")
    result = execute("plan_sync")
    (row,) = metadata(result, "sync_plan")["preview"].records
    assert (row.data["action"], row.data["sku"]) == ("create", "A-1")
    assert not environment.calls()
    logged = environment.database.read(
        newest_sync, "products", result.run_id
    )  # where `GET sync/products` looks
    assert logged is not None
    assert (logged["scope"], logged["outcome"], logged["counts"]["created"]) == ("dry run", "done", 1)


def test_stock_travels_by_the_inventory_push(environment: World, execute: Execute) -> None:
    product = add_product(environment.database, sku="A-1")
    environment.full()
    environment.set(product, stock_quantity=2)
    result = execute("inventory_push")
    assert metadata(result, "inventory_levels")["pushed"] == 1
    assert environment.shown["A-1"][2] == 2
    assert checks(result) == {
        "no_negative_stock": True,
        "ledger_explains_stock": True,
        "within_the_brake": True,
    }


def test_sales_are_imported_and_those_of_a_week_checked(environment: World, execute: Execute) -> None:
    add_product(environment.database, sku="A-1", stock_quantity=5)
    environment.full()
    environment.place(("A-1", 2), id="first")
    assert metadata(execute("order_import"), "imported_orders")["imported"] == 1
    environment.place(("A-1", 1), ("A-1", 2))
    execute("order_import")
    for old in (
        "marketplace_orders SET imported_at = '2026-01-01' WHERE marketplace_order_id = 'first'",
        "order_processing_logs SET created_at = '2026-01-01' WHERE marketplace_order_id = 'first'",
        "inventory_changes SET created_at = '2026-01-01' WHERE reference = 'fourseller:first:1'",
    ):
        amend(environment.database, f"UPDATE {old}")
    names = ("order_totals_add_up", "one_shop_order_each", "deductions_equal_items", "statuses_never_go_back")
    result = execute("stock_watch", checks=names)
    assert checks(result) == dict.fromkeys(names, True)
    looked_at = [evaluation(result, name).metadata["checked"].value for name in names]
    assert looked_at == [1, 1, 2, 1]  # of the last week alone


def test_each_check_that_passes_says_how_much_it_looked_at(environment: World, execute: Execute) -> None:
    add_product(environment.database, sku="A-1")
    environment.full()
    result = execute("stock_watch")
    numbers = {one.check_name: one.metadata.get("checked") for one in result.get_asset_check_evaluations()}
    assert [name for name, checked in numbers.items() if checked is None] == ["orders_are_fresh"]
    assert (numbers["columns_as_expected"].value, numbers["answers_keep_the_contract"].value) == (65, 2)


def test_a_check_counts_what_is_in_the_catalog(environment: World, execute: Execute) -> None:
    by_variant = add_product(environment.database, sku="A-1")
    add_variant(environment.database, by_variant, sku="A-2")
    add_product(environment.database, sku="A-3", status="archived")
    gone = add_product(environment.database, sku="A-4")
    environment.full()
    amend(environment.database, f"DELETE FROM products WHERE id = {gone}")
    expected = {"no_negative_stock": 3, "ledger_explains_stock": 3, "nothing_sold_out_that_sells": 1}
    for job, counts in (("stock_watch", expected), ("full_sync", {"skus_unique": 2})):
        result = execute(job, checks=counts if job == "stock_watch" else ())
        assert {name: evaluation(result, name).metadata["checked"].value for name in counts} == counts


def test_the_shop_is_checked_while_4seller_is_away(
    environment: World, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOURSELLER_API_URL", "http://127.0.0.1:1")
    result = execute("stock_watch")
    assert result.success
    assert checks(result)["order_totals_add_up"]


def test_what_4seller_shows_otherwise_fails_its_check_and_names_the_item(
    environment: World, execute: Execute
) -> None:
    add_product(environment.database, sku="A-1")
    environment.full()
    (product,) = environment.sandbox.state.products.values()
    product["price"] = "99.00"
    result = execute("consistency_check")
    assert checks(result) == {
        "skus_unique": True,
        "catalog_kept_its_size": True,
        "every_active_item_listed": True,
        "prices_match": False,
        "quantities_match": True,
        "content_matches": True,
        "consistent": False,
        "published_not_above_available": True,
        "one_product_per_sku": True,
        "no_product_without_item": True,
    }
    assert metadata(result, "listing_observation")["differences"].records[0].data["4Seller"] == "99.00"


def test_an_item_that_4seller_offers_beyond_what_is_there_fails_its_check_however_few_they_are(
    environment: World, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDAS_READ_BACK_GRACE_SECONDS", "0")
    for _ in range(3):
        add_product(environment.database, stock_quantity=3)
    environment.full()
    product = next(iter(environment.sandbox.state.products.values()))
    product["inventory"] = {"quantity": 4, "track_quantity": True}
    result = execute("consistency_check")
    found = {one.check_name: one for one in result.get_asset_check_evaluations()}
    above = found["published_not_above_available"]
    assert not above.passed
    (row,) = above.metadata["offenders"].records
    assert (row.data["shop"], row.data["4Seller"]) == ("3", "4")


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("FOURSELLER_API_KEY", "wrong-key", "refused the credentials"),
        ("FOURSELLER_API_KEY", "", "FOURSELLER_API_KEY is not set"),
        ("MIDAS_DATABASE_URL", "", "MIDAS_DATABASE_URL is not set"),
    ],
)
def test_expected_trouble_fails_the_run_with_one_sentence(
    environment: World,
    execute: Execute,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    sentence: str,
) -> None:
    monkeypatch.setenv(variable, value)
    result = execute("order_import")
    assert not result.success
    assert sentence in failure(result)
    assert "wrong-key" not in failure(result)


def test_the_words_of_a_failure_are_text_as_written() -> None:
    said = "4Seller said ![](http://x/y) <b>_now_</b>"
    failed = failure_of(BadCredentials(said))
    assert failed.description == failed.metadata["reason"].value == said
    assert failed.metadata["exit_code"].value == 2


def test_every_asset_says_whose_it_is_and_what_it_holds() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert spec.group_name != "default"
        assert spec.owners
        assert spec.kinds
        assert spec.description


def test_a_shop_of_which_nothing_is_listed_passes_no_check(environment: World, execute: Execute) -> None:
    add_product(environment.database)
    found = checks(execute("consistency_check"))
    assert {name for name, passed in found.items() if passed} == {"skus_unique", "catalog_kept_its_size"}
