"""Answers sorted into the family of errors, read leniently, and refused by the name of the field."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from midas_pipelines.fourseller import errors
from midas_pipelines.fourseller.models import Product, ProductDraft, read_order, read_product
from midas_pipelines.fourseller.status import WORDS, OrderStatus, read_status
from midas_pipelines_tests.fourseller.channel import answering, channel, draft, every, use

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def error(status: int, **body: Any) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": "c", "message": "Price is wrong", **body}})


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (error(400), errors.BadItem, "Price is wrong"),
        (error(422, details={"price": "below 0"}), errors.BadItem, "price: below 0"),
        (error(422, details=["price", {"sku": "taken"}]), errors.BadItem, "price; sku: taken"),
        (httpx.Response(422, text="nope"), errors.BadItem, "gave no reason"),
        (httpx.Response(422, json=[]), errors.BadItem, "gave no reason"),
        (error(404), errors.NotFound, "does not have"),
        (error(409), errors.Conflict, "conflict"),
        (httpx.Response(405), errors.ContractBroken, "status 405"),
        (httpx.Response(302), errors.BadCredentials, "redirect .302."),
    ],
)
def test_refusals_are_sorted_and_never_sent_again(answer: httpx.Response, kind: type, words: str) -> None:
    client = channel(transport=answering(answer))
    with pytest.raises(kind, match=words) as raised:
        use(client, lambda c: c.update_product("P1", draft()))
    assert client.requests == 1
    assert raised.value.item == "P1"  # type: ignore[attr-defined]
    assert str(raised.value).endswith(".")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "id"),
        ({"id": ""}, "id"),
        ({"id": None}, "id"),
        ({"id": True}, "id"),
        ({"id": 0}, "id"),
        ({"id": "***"}, "id"),
        ({"id": ["P"]}, "id"),
        ([], "(body)"),
        ("text", "(body)"),
    ],
)
def test_a_broken_answer_names_its_field(body: Any, field: str) -> None:
    client = channel(transport=answering(httpx.Response(200, json=body)))
    with pytest.raises(errors.ContractBroken) as raised:
        use(client, lambda c: c.product("P1"))
    assert raised.value.field == field
    assert f"`{field}`" in str(raised.value)


def test_the_servers_words_about_an_order_are_not_quoted() -> None:
    """They may name the buyer; about a product they are what the operator needs."""
    client = channel(transport=answering(error(409, details={"name": "Personal Name"})))
    with pytest.raises(errors.Conflict) as raised:
        use(client, lambda c: c.update_order("A", status="shipped", at=NOW))
    assert "Personal" not in str(raised.value)
    assert raised.value.code == "c"


def test_a_create_whose_answer_cannot_be_read_is_ambiguous_and_names_the_field() -> None:
    client = channel(transport=answering(httpx.Response(201, json={"sku": "S"})))
    with pytest.raises(errors.Ambiguous, match="`id`"):
        use(client, lambda c: c.create_product(draft(), idempotency_key="k"))
    assert client.requests == 1


def test_missing_and_null_optional_fields_are_fine() -> None:
    full = dict.fromkeys(Product.model_fields, None) | {"id": "P", "surprise": 1}
    for body in ({"id": "P"}, full):
        product = use(channel(transport=answering(httpx.Response(200, json=body))), lambda c: c.product("P"))
        assert (product.id, product.price, product.images) == ("P", None, [])


@pytest.mark.parametrize("price", ["12.50", 12.5])
def test_money_is_exact(price: Any) -> None:
    assert read_product({"id": "P", "price": price}).price == Decimal("12.5")
    assert b'"price":"12.50"' in draft(price=Decimal("12.50")).body()
    assert b'"price":"100"' in draft(price=Decimal("1E+2")).body()


@pytest.mark.parametrize(
    "fields",
    [{"sku": ""}, {"title": ""}, {"price": Decimal("-1")}, {"price": Decimal("NaN")}, {"colour": "x"}],
)
def test_a_draft_the_contract_would_refuse_is_not_built(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        ProductDraft(**({"sku": "S", "title": "t", "price": Decimal(1)} | fields))


def page_of(rows: list[Any], total: int | None = None, offset: int = 0) -> httpx.Response:
    count = len(rows) if total is None else total
    return httpx.Response(200, json={"data": rows, "total": count, "limit": 100, "offset": offset})


def test_one_unreadable_order_never_hides_the_others() -> None:
    rows = [
        {"id": "A", "items": [{"quantity": None}, {"quantity": 0}, {"quantity": -2, "price": None}, {}]},
        {"id": "B", "items": [{"quantity": "many"}], "customer": {"name": "Personal Name"}},
        "nonsense",
        {"items": [], "customer": {"name": "Personal Name"}},
        {"id": "C", "items": None, "customer": None, "status": "Unmapped", "extra": {"kept": 1}},
    ]
    read = use(channel(transport=answering(page_of(rows))), lambda c: every(c.order_pages()))[0]
    assert [order.id for order in read.data] == ["A", "B", "C"]
    assert [order.unreadable for order in read.data] == [(), ("quantity",), ()]
    assert [bad.field for bad in read.rejected] == ["(body)", "id"]
    assert read.rejected[1].raw == rows[3]
    assert "Personal Name" not in repr(read.rejected)
    assert read.data[2].raw == rows[4]
    assert read.data[2].state.status is OrderStatus.PENDING


def test_times_become_utc() -> None:
    order = read_order(
        {"id": "A", "created_at": "2026-03-01T02:00:00+02:00", "updated_at": "2026-03-01T00:00:00"}
    )
    assert order.created_at == order.updated_at == NOW
    assert order.created_at.tzinfo is UTC


def test_a_naive_time_is_never_sent() -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(ValueError, match="aware"):
        use(channel(transport=answering(page_of([]))), lambda c: c.set_quantity("P", 1, naive))


@pytest.mark.parametrize(
    "word",
    [
        "Unmapped",
        "Out of stock",
        "Address invalid",
        "Unpaid",
        "On-hold",
        "ON_HOLD",
        "Pending processing",
        "In process",
        " pending ",
        "un_paid",
        "to_ship",
    ],
)
def test_every_word_of_a_waiting_order_is_pending(word: str) -> None:
    read = read_status(word)
    assert (read.status, read.known, read.word) == (OrderStatus.PENDING, True, word)


@pytest.mark.parametrize(
    ("word", "paid"), [("Unpaid", False), ("un_paid", False), ("to_ship", True), (None, True)]
)
def test_only_an_unpaid_order_is_not_paid(word: str | None, paid: bool) -> None:
    assert read_status(word).unpaid is not paid


@pytest.mark.parametrize("word", ["Teleported", "", None])
def test_an_unknown_word_is_pending_kept_and_told(word: str | None) -> None:
    read = read_status(word)
    assert (read.status, read.known, read.word) == (OrderStatus.PENDING, False, word or "")


def test_the_states_are_their_own_words() -> None:
    assert {WORDS[status.value] for status in OrderStatus} == set(OrderStatus)
