"""What hubs really send, value by value: read, missing, or not to be read; never an error for the rest."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from midas_pipelines.fourseller.http.answers import read_json
from midas_pipelines.fourseller.lenient import (
    read_id,
    read_money,
    read_personal,
    read_said,
    read_time,
    read_whole,
)
from midas_pipelines.fourseller.models import Inventory, read_order, read_product

UNREADABLE = object()


def test_a_sku_may_be_a_word_for_nothing() -> None:
    items = [{"sku": sku} for sku in ("NONE", "null", "***", "", 0, 5)]
    read = [item.sku for item in read_order({"id": "A", "items": items}).items]
    assert read == ["NONE", "null", None, None, None, "5"]


def given(read: Any, value: Any) -> Any:
    try:
        return read(value)
    except (ValueError, ArithmeticError):
        return UNREADABLE


IDS = {
    "700001": ["700001", 700001, 700001.0],
    "9" * 400: [int("9" * 400)],
    "12345678901234567890123": ["12345678901234567890123", 12345678901234567890123],
    None: ["", " ", "***", "N/A", "null", 0, None, False, []],
    UNREADABLE: [True, float("inf"), float("nan"), ["700001"], {"id": 1}],
}


@pytest.mark.parametrize(
    ("read", "value"), [(read, value) for read, values in IDS.items() for value in values]
)
def test_an_id_is_one_however_it_is_spelled(read: Any, value: Any) -> None:
    assert given(read_id, value) == read


MONEY = {
    "1010.00": ["1,010.00", "1.010,00", "1 010,00", "1'010.00", "$1,010.00", "1,010.00 USD", "US$ 1010.00"],
    "1010": ["1,010", 1010, "1010"],
    "12.50": ["12.50", "12,50", "$12.50", "€12,50", "12.50 kr", "USD 12.50", {"amount": "12.50"}],
    "1.010": ["1.010"],
    "100000.00": ["1,00,000.00"],
    "1010000": ["1.010.000", "1,010,000"],
    "-5.00": ["-5.00", "−5,00", "-$5.00", "$-5.00"],
    "0.125": ["0,125", ".125"],
    None: ["", " ", "***", "N/A", None, False, [], {}],
    UNREADABLE: [
        "ten",
        True,
        float("inf"),
        "1,2,3",
        "1.2.3",
        "1,010.000,00",
        "10%",
        [1],
        "2026-11-27",
    ],
}


@pytest.mark.parametrize(
    ("read", "value"), [(read, value) for read, values in MONEY.items() for value in values]
)
def test_an_amount_is_read_in_the_spellings_that_mean_one_number(read: Any, value: Any) -> None:
    assert given(read_money, value) == (Decimal(read) if isinstance(read, str) else read)


NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
TIMES: list[tuple[Any, Any]] = [
    ("2026-11-27T12:00:00Z", NOON),
    ("2026-11-27 12:00:00", NOON),
    ("2026-11-27T14:00:00+0200", NOON),
    ("2026-11-27 12:00:00 UTC", NOON),
    ("2026-11-27 14:00:00 +02:00", NOON),
    ("2026/11/27 12:00:00", NOON),
    ("Fri, 27 Nov 2026 12:00:00 GMT", NOON),
    ("Fri, 27 Nov 2026 14:00:00 +0200", NOON),
    ("2026-11-27", NOON.replace(hour=0)),
    ("2026-11-27T23:59:60Z", NOON.replace(hour=23, minute=59, second=59)),
    (int(NOON.timestamp()), NOON),
    (NOON.timestamp(), NOON),
    (f"{int(NOON.timestamp()) * 1000}", NOON),
    *[
        (value, None)
        for value in ("", " ", "0000-00-00 00:00:00", "0000-00-00", 0, "0", None, False, "N/A", [])
    ],
    *[
        (value, UNREADABLE)
        for value in ("20261127", 20261127, "20261127103000", "1970-01-01T00:00:00Z", 1, -1)
    ],
    *[
        (value, UNREADABLE)
        for value in ("0001-01-01T00:00:00Z", "yesterday", "27.11.2026", "11/27/2026", True)
    ],
    *[
        (value, UNREADABLE)
        for value in ("9999-12-31T23:59:59-12:00", "10000-01-01T00:00:00Z", {"a": 1}, 1e300)
    ],
]


@pytest.mark.parametrize(("value", "moment"), TIMES)
def test_a_date_is_read_or_unknown_and_never_1970(value: Any, moment: Any) -> None:
    assert given(read_time, value) == moment


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\t",
        "***",
        "**",
        "N/A",
        "n/a",
        "null",
        "None",
        "-",
        "--",
        "xxxx",
        "XXXXX",
        "undefined",
        "Nil",
        "NaN",
    ],
)
def test_masked_and_empty_texts_are_missing(value: str) -> None:
    assert read_said(value) is None
    assert read_order({"id": "A", "tracking": {"number": value}}).tracking.number is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "value",
    [
        "NA",
        "Null Island",
        "X",
        "XXL",
        "Unit 3",
        "Nina",
        "A*",
        "0",
        "né",
        "Hidden Valley Rd",
        "Will Hidden",
        "No",
    ],
)
def test_what_only_looks_masked_is_kept(value: str) -> None:
    assert (read_said(value), read_personal(value)) == (value, value)


@pytest.mark.parametrize(
    "value",
    [
        "J*** D***",
        "1** Nowhere Lane",
        "j•••@example.com",
        "XXX-XXX-0100",
        "5 xxxx St",
        "xxxxxx1234",
        "xxx",
        "[REDACTED]",
        "<masked>",
        "Not available",
        "N.A.",
        "n/a, N/A",
        "(null)",
        "PII removed",
        "00000-0000",
    ],
)
def test_a_partly_masked_buyer_is_missing(value: str) -> None:
    order = read_order({"id": "A", "customer": {"name": value}, "items": [{"title": value}]})
    assert (order.customer, order.items[0].title) == ({"email": None, "name": None, "phone": None}, value)
    assert order.unreadable == ()


class Slow(str):
    """A text that is not looked at quickly."""


PIECES = [
    "",
    "0",
    "00 ",
    "5",
    "n",
    "No",
    "x",
    "XXX",
    "**",
    "- ",
    "(",
    " ",
    "name",
    "Data ",
    "REMOVED",
    "Ann",
    "_null",
    "é",
]


def test_a_quick_look_at_a_buyers_text_finds_what_a_close_one_does() -> None:
    for text in map("".join, product(PIECES, repeat=3)):
        assert read_personal(text) == read_personal(Slow(text)), text


@pytest.mark.parametrize(
    ("value", "number"),
    [("1", 1), (1.0, 1), ("1,000", 1000), ("2 pcs", 2), (-1, -1), ("", None), (None, None)]
    + [(odd, UNREADABLE) for odd in ("two", 1e99, 1.5, True, 2**31, [2])],
)
def test_a_quantity_is_a_whole_number_or_not_read(value: Any, number: Any) -> None:
    assert given(read_whole, value) == number


def test_odd_lines_leave_the_others_as_they_are() -> None:
    lines = [None, "A", 5, [], {"sku": 5, "quantity": "3"}]
    read = read_order({"id": 1, "items": lines})
    assert [(line.sku, line.quantity) for line in read.items] == [(None, None), (None, None), ("5", 3)]
    assert read.unreadable == ("items",)
    for shape in ({"0": {"sku": "A"}, "2": {"sku": "B"}}, [{"sku": "A"}, {"sku": "B"}]):
        assert [line.sku for line in read_order({"id": 1, "items": shape}).items] == ["A", "B"]
    assert [line.sku for line in read_order({"id": 1, "items": {"sku": "A", "quantity": 1}}).items] == ["A"]


PRODUCTS: list[tuple[dict[str, Any], set[str]]] = [
    ({"inventory": {"quantity": -3}}, {"inventory"}),
    ({"inventory": {"quantity": "7"}}, set()),
    ({"inventory": {"quantity": None}}, set()),
    ({"inventory": []}, {"inventory"}),
    ({"images": ["https://shop.example/1.jpg"]}, set()),
    ({"images": [{"alt": "x"}, 7]}, {"images"}),
    ({"attributes": []}, {"attributes"}),
    ({"attributes": {"weight": {"value": 8}}}, {"attributes", "shipping"}),
    ({"price": "cheap"}, {"price"}),
    ({"price": -1, "title": ["x"]}, {"price", "title"}),
    ({"updated_at": 5}, {"updated_at"}),
]


@pytest.mark.parametrize(("fields", "unseen"), PRODUCTS)
def test_what_cannot_be_read_of_a_product_is_not_seen(fields: dict[str, Any], unseen: set[str]) -> None:
    product = read_product({"id": 5, "sku": "S"} | fields)
    assert (product.id, product.sku, product.unseen) == ("5", "S", unseen)


def test_a_draft_of_ours_is_still_strict() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        Inventory(quantity=-1)


BODIES: list[tuple[bytes, Any]] = [
    (b'{"a":"x\xe2\x82","b":1}', {"a": "x\ufffd", "b": 1}),
    (b'{"a":"x\x01\ny"}', {"a": "x\x01\ny"}),
    (b'{"a":"\\ud83d"}', {"a": "\ufffd"}),
    (b'{"a":"x\\u0000y\x00"}', {"a": "x\ufffdy\ufffd"}),
    (b'{"a":NaN,"b":-Infinity}', {"a": None, "b": None}),
    (b'{"a":"C:\\parts \\\\ \\n"}', {"a": "C:\\parts \\ \n"}),
    (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
    (b'{"a":' + b"9" * 5000 + b"}", {"a": None}),
    (b'{"a":"caf\xe9"}', {"a": "caf\ufffd"}),
]


@pytest.mark.parametrize(("body", "value"), BODIES)
def test_a_badly_spelled_text_hides_nothing_else(body: bytes, value: Any) -> None:
    assert read_json(body) == value


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b'{"a":}', b"[" * 100_000, b"[" * 900 + b"]" * 900])
def test_what_is_no_json_is_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_json(body)
