"""The consistency figure: what differs counts, what is on its way to 4Seller is not judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from midas_pipelines.sync.snapshots.consistency import compare

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
ITEM = {
    "sku": "A",
    "title": "T",
    "fourseller_product_id": "P",
    "expected_price": 10,
    "expected_quantity": 5,
    "expected_content": "c",
    "accepted_content": None,
    "is_waiting": False,
    "acked_at": NOW - timedelta(hours=2),
}
SHOWN = {"fourseller_product_id": "P", "price": 10, "quantity": 5, "content": "c"}
SHOWN |= {"updated_at": NOW - timedelta(hours=2)}
LATER, JUST = NOW + timedelta(minutes=1), NOW - timedelta(seconds=5)


@pytest.mark.parametrize(
    ("item", "shown", "found"),
    [
        ({}, {}, "equal"),
        ({"accepted_content": "theirs"}, {"content": "theirs"}, "equal"),
        ({}, {"content": None}, "equal"),
        ({}, {"price": 11, "quantity": 4}, "price, quantity"),
        ({}, {"content": "other"}, "content"),
        ({}, {"fourseller_product_id": "another"}, "listing"),
        ({"is_waiting": True}, {"quantity": 4}, "changing"),
        ({"acked_at": LATER}, {"price": 11}, "changing"),
        ({}, {"quantity": 4, "updated_at": LATER}, "changing"),
        ({"acked_at": JUST}, {"quantity": 4}, "changing"),
        ({"acked_at": JUST}, {"price": 11}, "price"),
    ],
)
def test_each_item_is_equal_changing_or_differs(
    item: dict[str, Any], shown: dict[str, Any], found: str
) -> None:
    moments = {"known_until": NOW, "read_at": NOW, "quantities_until": NOW - timedelta(seconds=30)}
    got = compare(pd.DataFrame([ITEM | item]), pd.DataFrame([SHOWN | shown]), **moments)
    differs = list(got.counterexamples["fields"])
    assert (got.equal, got.changing, differs) == (
        int(found == "equal"),
        int(found == "changing"),
        [] if found in ("equal", "changing") else [found],
    )
