"""Pins and comparisons, without a shop or a 4Seller: every shape of a product survives."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midas_pipelines.fourseller.models import Product, ProductDraft
from midas_pipelines.sync.listings.pins import CONTENT, FIELDS, followed, overlaid, pin
from midas_pipelines.sync.listings.plan import content_hash

DRAFT = ProductDraft(title="Screen", sku="A-1", price=Decimal("10.00"), description="Words", status="active")

PRODUCTS: dict[str, dict[str, Any]] = {
    "bare": {},
    "priceless": {"price": None, "inventory": None},
    "rich": {
        "price": "99.999",
        "inventory": {"quantity": 7},
        "images": [{"url": "https://x.example/1.jpg"}],
        "attributes": {"weight": 8.5, "shade": "odd"},
        "shipping": {"weight": "8.50"},
    },
    "untitled": {"title": "", "currency": None},
    "strange": {"title": "T" * 400, "brand": "\u202e", "category": "x" * 200, "extra": [1]},
}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("shape", PRODUCTS)
def test_any_field_of_any_product_can_be_pinned_and_laid_over_a_draft(field: str, shape: str) -> None:
    product = Product.model_validate({"id": "P1", "sku": "A-1", "title": "Other"} | PRODUCTS[shape])
    draft = overlaid(DRAFT, {field: pin(product, field)})
    assert draft.sku == "A-1"
    assert draft.title


@pytest.mark.parametrize("shape", ["rich", "strange"])
def test_with_everything_pinned_the_draft_is_the_product_as_it_is(shape: str) -> None:
    product = Product.model_validate(
        {"id": "P1", "sku": "A-1", "title": "Other", "currency": "USD"} | PRODUCTS[shape]
    )
    pins = {field: pin(product, field) for field in ("price", "content")}
    wanted = product if product.price is not None else product.model_copy(update={"price": DRAFT.price})
    assert content_hash(overlaid(DRAFT, pins)) == content_hash(wanted)


@pytest.mark.parametrize("odd", [{"title": "T" * 600}, {"price": "1" * 20}])
def test_a_value_that_4seller_itself_would_not_take_stops_nobody(odd: dict[str, str]) -> None:
    product = Product.model_validate({"id": "P1"} | odd)
    pins = {name: pin(product, name) for name in odd}
    assert overlaid(DRAFT, pins) == DRAFT


def test_a_pin_follows_what_4seller_shows_and_keeps_whether_it_waits() -> None:
    product = Product.model_validate({"id": "P1", "price": "12.00"})
    assert followed({"price": {"value": "9.00", "held": True}}, product) == {
        "price": {"value": "12.00", "held": True}
    }
    assert followed(None, product) == {}


@given(
    title=st.text(min_size=1, max_size=200),
    brand=st.none() | st.text(max_size=50),
    price=st.decimals(0, 9999, places=2),
)
def test_pinned_content_reads_back_as_it_was_written(title: str, brand: str | None, price: Decimal) -> None:
    product = Product.model_validate(
        {"id": "P1", "sku": "A-1", "title": title, "brand": brand, "price": price, "currency": "USD"}
    )
    pins = {field: pin(product, field) for field in ("price", *CONTENT)}
    assert content_hash(overlaid(DRAFT, pins)) == content_hash(product)
