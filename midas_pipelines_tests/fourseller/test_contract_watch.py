"""Where answers differ from the contract: found in production, without personal data, and proposed as a change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from midas_pipelines.fourseller.contract_watch import ContractWatch, overlay
from midas_pipelines.fourseller.http.answers import Answer, AnswerSample, Call

PRODUCT = {
    "id": "P1",
    "sku": "S",
    "title": "T",
    "price": "1.00",
    "inventory": {"quantity": 1},
    "updated_at": "2026-01-01T00:00:00Z",
}
ORDER = {
    "id": "A1",
    "status": "pending",
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
    "currency": "USD",
    "total": "1.00",
    "items": [],
}


def page(rows: list[Any], **more: Any) -> dict[str, Any]:
    return {"data": rows, "total": len(rows), "limit": 100, "offset": 0, **more}


def watched(
    template: str, body: Any, status: int = 200, method: str = "GET", **query: str
) -> list[tuple[str, str]]:
    watch = ContractWatch()
    call = Call(method, template, template, query=tuple(query.items()))
    watch.compare(call, Answer(status, json.dumps(body).encode()))
    found = watch.take()
    assert "Secret" not in str(found)
    return [(one.kind, one.place) for one in found]


CASES: list[tuple[str, Any, list[tuple[str, str]]]] = [
    ("/products/{id}", PRODUCT, []),
    ("/products", page([PRODUCT]), []),
    ("/orders/{id}", ORDER | {"status": "On-hold"}, []),
    ("/products/{id}", PRODUCT | {"vendor": {"x": 1}}, [("field", "vendor")]),
    ("/products/{id}", PRODUCT | {"inventory": {"quantity": 1, "held": 2}}, [("field", "inventory.held")]),
    ("/products/{id}", PRODUCT | {"title": 12}, [("type", "title")]),
    ("/products/{id}", {**PRODUCT, "price": None}, [("missing", "price")]),
    ("/products", page([{**PRODUCT, "id": 5}]), [("type", "data[].id")]),
    ("/orders/{id}", ORDER | {"status": "awaiting carrier"}, [("word", "status")]),
    ("/orders/{id}", ORDER | {"status": "Secret Person 12"}, [("word", "status")]),
    ("/orders/{id}", ORDER | {"customer": {"ssn": "Secret"}}, [("field", "customer.ssn")]),
    ("/orders/{id}", ORDER | {"total": "Secret"}, [("type", "total")]),
    ("/products", page([PRODUCT], total=0), [("paging", "total")]),
    ("/products", page([PRODUCT], total=7), [("paging", "data")]),
    ("/products", page([PRODUCT], offset=9, total=1), [("paging", "offset")]),
]


@pytest.mark.parametrize(("template", "body", "found"), CASES)
def test_each_difference_is_found(template: str, body: Any, found: list[tuple[str, str]]) -> None:
    assert watched(template, body) == found


def test_an_unknown_status_is_found_and_a_failing_server_is_none() -> None:
    assert ("status", "202") in watched("/products", PRODUCT, 202, "POST")
    assert watched("/products/{id}", {}, 418) == [("status", "418")]
    assert watched("/products/{id}", {}, 503) == []


@pytest.mark.parametrize(("method", "times"), [("GET", 4), ("PUT", 3)])
def test_one_of_a_sample_is_compared_and_all_are_counted(method: str, times: int) -> None:
    watch = ContractWatch()
    answers = AnswerSample(10, watch.compare)
    call = Call(method, "/products/{id}", "/products/P1")
    for _ in range(30):
        answers.note(call, Answer(200, json.dumps(PRODUCT | {"vendor": 1}).encode()), 0.01)
    (found,) = watch.take()
    assert found.times == times
    assert answers.take_seconds(20) == {f"{method} /products/{{id}}": [30, pytest.approx(0.3)]}
    answers.note(call, Answer(418, b""), 0.01)
    assert [one.kind for one in watch.take()] == ["status"]


def test_findings_become_an_overlay_of_the_document() -> None:
    found = [
        {
            "kind": "field",
            "call": "GET /products",
            "place": "data[].inventory.held",
            "what": "The contract does not know this field: number.",
        },
        {
            "kind": "type",
            "call": "GET /products/{id}",
            "place": "title",
            "what": "The contract allows no such value there: number.",
        },
        {"kind": "status", "call": "POST /products", "place": "202", "what": "It answers 202."},
        {"kind": "paging", "call": "GET /orders", "place": "total", "what": "total is less."},
    ]
    made = overlay(found)
    assert made["actions"][0] == {
        "target": "$.components.schemas.Product.properties.inventory.properties",
        "update": {"held": {"type": ["number", "null"]}},
    }
    assert made["actions"][1]["update"] == {"x-also": "number"}
    assert made["actions"][2]["target"] == "$.paths['/products'].post.responses"
    assert made["x-remarks"] == ["GET /orders total: total is less."]
