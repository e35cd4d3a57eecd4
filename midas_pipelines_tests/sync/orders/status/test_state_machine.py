"""The one table of statuses, and that each other place agrees with it: the contract, the paths, the database's check."""

from __future__ import annotations

from itertools import pairwise

import pytest
import sqlalchemy as sa

from midas_pipelines.fourseller.contract import next_statuses
from midas_pipelines.fourseller.status import (
    BACKWARD,
    TABLE,
    OrderStatus,
    StatusDecision,
    decide,
    path,
    why_not_pushed,
)
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.checks import statuses_gone_back
from midas_pipelines.store.schema.tables import marketplace_orders, order_processing_logs
from midas_pipelines.sync.orders.status.outbound import next_call

STATUSES = list(OrderStatus)  # pending processing shipped delivered cancelled refunded
ALL_PAIRS = pytest.mark.parametrize(("before", "after"), TABLE)


def reachable(status: str) -> set[str]:
    """The statuses that the contract lets an order reach from here, by any number of steps."""
    found: set[str] = set()
    while fresh := {after for one in {status, *found} for after in next_statuses()[one]} - found:
        found |= fresh
    return found


@pytest.mark.parametrize("status", STATUSES)
def test_the_table_follows_exactly_where_the_contract_leads(status: OrderStatus) -> None:
    follows = {after.value for after in STATUSES if TABLE[status, after] is StatusDecision.FOLLOW}
    assert follows == reachable(status.value)
    assert TABLE[status, status] is StatusDecision.AGREE


@ALL_PAIRS
def test_a_path_is_made_of_steps_of_the_contract(before: OrderStatus, after: OrderStatus) -> None:
    steps = path(before, after)
    assert bool(steps) is (TABLE[before, after] is StatusDecision.FOLLOW)
    assert all(two.value in next_statuses()[one.value] for one, two in pairwise([before, *steps]))
    assert steps[-1:] in ([], [after])
    calls = [next_call(one, after) for one in [before, *steps]]
    assert [call and call.status for call in calls] == [*steps, None]


@ALL_PAIRS
def test_what_may_be_pushed_needs_a_call_and_nothing_else_does(
    before: OrderStatus, after: OrderStatus
) -> None:
    decision = decide(after.value, before)  # the marketplace has `before`, the shop `after`
    pushed = why_not_pushed(decision, after.value, before) is None and decision is not StatusDecision.AGREE
    assert pushed is (decision is StatusDecision.PUSH)
    if pushed and after is not OrderStatus.REFUNDED:  # the shop's own word for it is not pushed as a status
        assert next_call(before, after)


@pytest.mark.both_databases
def test_the_check_in_the_database_finds_what_the_table_calls_backward(shop: Database) -> None:
    pairs = list(TABLE)
    with shop.writing() as connection:
        for number, (before, now) in enumerate(pairs):
            order = {"channel": "fourseller", "marketplace_order_id": str(number), "status": now.value}
            step = {"channel": "fourseller", "marketplace_order_id": str(number), "step": before.value}
            connection.execute(sa.insert(marketplace_orders).values(order | {"outcome": "imported"}))
            connection.execute(sa.insert(order_processing_logs).values(step))
        settled = {"channel": "fourseller", "marketplace_order_id": str(pairs.index(BACKWARD[0]))}
        connection.execute(sa.insert(order_processing_logs).values(settled | {"step": "resolved"}))
    found = statuses_gone_back(shop, BACKWARD)
    expected = {(before.value, now.value) for before, now in BACKWARD[1:]}
    assert {(row["had_reached"], row["status"]) for row in found} == expected
    assert all((row["had_reached"], row["status"]) in expected for row in found)


# shop's word -> the decision for each status of the marketplace, from pending to refunded
NOTHING_SHIPPED: dict[str | None, str] = {
    "pending": "agree follow follow follow follow follow",
    "processing": "push agree follow follow follow follow",
    "cancelled": "push push conflict conflict agree agree",
    "refunded": "push push push push push agree",
    "on-hold": "follow follow follow follow follow follow",
    None: "agree agree agree agree agree agree",
}
SHIPPED: dict[str | None, str] = {
    "pending": "agree follow follow follow conflict follow",
    "processing": "push agree follow follow conflict follow",
    "shipped": "push push agree follow conflict agree",
    "delivered": "push push push agree conflict agree",
    "cancelled": "conflict conflict conflict conflict conflict agree",
    "refunded": "push push push push push agree",
    "on-hold": "follow follow follow follow conflict follow",
    None: "agree agree agree agree agree agree",
}


@pytest.mark.parametrize("shipped", [False, True])
def test_goods_that_have_left_turn_a_cancellation_into_a_conflict(shipped: bool) -> None:
    for shop, row in (SHIPPED if shipped else NOTHING_SHIPPED).items():
        assert [decide(shop, status, shipped=shipped).value for status in STATUSES] == row.split(), shop


RESOLVED = [
    # a person said that it counts as cancelled: the shop's cancellation is pushed, or both statuses stay
    ("cancelled", OrderStatus.PROCESSING, "cancelled", StatusDecision.PUSH),
    ("cancelled", OrderStatus.SHIPPED, "cancelled", StatusDecision.AGREE),
    ("cancelled", OrderStatus.CANCELLED, "cancelled", StatusDecision.AGREE),
    ("shipped", OrderStatus.CANCELLED, "cancelled", StatusDecision.CONFLICT),  # the shop shipped afterwards
    # goods that left after a refund are a conflict until a person says that they count as shipped
    ("shipped", OrderStatus.REFUNDED, None, StatusDecision.CONFLICT),
    ("shipped", OrderStatus.REFUNDED, "shipped", StatusDecision.AGREE),
]


@pytest.mark.parametrize(("shop", "channel", "resolution", "decision"), RESOLVED)
def test_a_persons_resolution_ends_a_conflict(
    shop: str, channel: OrderStatus, resolution: str | None, decision: StatusDecision
) -> None:
    assert decide(shop, channel, shipped=True, in_time=False, resolution=resolution) is decision


@pytest.mark.parametrize(
    ("shop", "channel", "why"),
    [
        ("on-hold", OrderStatus.PENDING, "calls it on-hold"),
        ("pending", OrderStatus.SHIPPED, "no step leads from shipped to pending"),
        ("cancelled", OrderStatus.SHIPPED, "of which goods have left"),
        ("shipped", OrderStatus.CANCELLED, "has sent what is cancelled"),
        ("shipped", OrderStatus.PENDING, None),
    ],
)
def test_a_status_that_is_not_pushed_has_a_reason(shop: str, channel: OrderStatus, why: str | None) -> None:
    found = why_not_pushed(decide(shop, channel), shop, channel)
    assert (found is None) if why is None else (why in str(found))
