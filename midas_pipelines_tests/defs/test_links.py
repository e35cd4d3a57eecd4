"""What the UI shows leads to the page of the item or order, in the shop and at 4Seller, where the settings say it is."""

from __future__ import annotations

import httpx
import pytest

from midas_pipelines.definitions import defs
from midas_pipelines.gateway.worker import run
from midas_pipelines.gateway.worker.reports import BY_DAY
from midas_pipelines_tests.defs.conftest import Execute, metadata
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.world import World

PAGES = {
    "MIDAS_CONSOLE_URL": "https://midas.example",
    "MIDAS_SHOP_PAGE": "https://shop.example/products/{slug}?sku={sku}",
    "MIDAS_FOURSELLER_PAGE": "https://4seller.example/listing/{fourseller_id}",
    "MIDAS_SHOP_ORDER_PAGE": "https://shop.example/back-office/{order_id}",
    "MIDAS_FOURSELLER_ORDER_PAGE": "https://4seller.example/order/{order}",
}


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page is set."""
    for name, value in PAGES.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("pages")
def test_a_discrepancy_leads_to_both_pages(environment: World, execute: Execute) -> None:
    add_product(environment.database, sku="A 1/2", slug="screen & glass")
    environment.full()
    (listed,) = environment.sandbox.state.products.values()
    listed["price"] = "99.00"
    told = metadata(execute("consistency_check"), "listing_observation")
    assert told["links"] == (
        f"- A 1\\/2 {listed['title']}: [console](https://midas.example/items/A%201%2F2), [shop](https://shop.example/products/screen%20%26%20glass?sku=A%201%2F2), "
        f"[4Seller](https://4seller.example/listing/{listed['id']})"
    )


@pytest.mark.usefixtures("pages")
def test_an_order_leads_to_both_pages(environment: World, execute: Execute) -> None:
    add_product(environment.database, sku="A-1")
    environment.full()
    order = environment.place(("A-1", 1))
    links = metadata(execute("order_import"), "imported_orders")["links"]
    assert f"[4Seller](https://4seller.example/order/{order})" in links
    assert f"[console](https://midas.example/orders/{order})" in links
    assert "[shop](https://shop.example/back-office/1)" in links


def test_without_pages_there_are_no_links(environment: World, execute: Execute) -> None:
    add_product(environment.database, sku=None)
    assert "links" not in metadata(execute("full_sync"), "fourseller_listings")


@pytest.mark.usefixtures("pages")
def test_what_4seller_has_not_is_not_linked_there(environment: World, execute: Execute) -> None:
    add_product(environment.database, sku="A-1", price=0)
    links = metadata(execute("full_sync"), "fourseller_listings").get("links", "")
    assert "4seller.example" not in links


def test_the_sandbox_shows_one_product_alone(environment: World) -> None:
    for sku in ("A-1", "A-2"):
        add_product(environment.database, sku=sku)
    environment.full()
    first, second = environment.sandbox.state.products.values()
    page = httpx.get(environment.background.root, params={"id": first["id"]}).text
    assert first["title"] in page
    assert f"<code>{second['id']}</code>" not in page
    assert httpx.get(environment.background.root, params={"id": "<script>"}).text.count("<script>") == 0


def test_the_gateway_tells_of_assets_that_dagster_knows() -> None:
    known = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    assert {*run.ASSETS.values(), *BY_DAY} <= known
