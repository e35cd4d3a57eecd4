"""The tables of status: what a report means, what the shop makes of it, what may be told. No database."""

from __future__ import annotations

from itertools import pairwise

import pytest

from midas_pipelines.fourseller.status import OrderStatus, may_follow
from midas_pipelines.sync.orders.changes.outbound import objection, status_updates
from midas_pipelines.sync.orders.model.state_machine import agree, decide_inbound, path, transition

WORDS = [status.value for status in OrderStatus]  # pending processing shipped delivered cancelled refunded

STEPS = {
    "pending": "same forward forward forward forward forward",
    "processing": "late same forward forward forward forward",
    "shipped": "late late same forward illegal forward",
    "delivered": "late late late same illegal forward",
    "cancelled": "late late illegal illegal same forward",
    "refunded": "late late late late late same",
}


@pytest.mark.parametrize(("standing", "row"), STEPS.items(), ids=STEPS)
def test_what_each_report_means_for_an_order_that_stands_somewhere(standing: str, row: str) -> None:
    found = [transition(OrderStatus(standing), OrderStatus(reported)).value for reported in WORDS]
    assert found == row.split()


NOTHING_HAS_LEFT: dict[str | None, str] = {
    "pending": "stay follow follow follow follow follow",
    "processing": "ahead stay follow follow follow follow",
    "cancelled": "ahead ahead conflict conflict stay stay",
    "refunded": "ahead ahead ahead ahead ahead follow",
    "on-hold": "follow follow follow follow follow follow",
    None: "stay stay stay stay stay stay",
}
GOODS_HAVE_LEFT: dict[str | None, str] = {
    "pending": "stay follow follow follow conflict stay",
    "processing": "ahead stay follow follow conflict stay",
    "shipped": "ahead ahead stay follow conflict stay",
    "delivered": "ahead ahead ahead stay conflict stay",
    "cancelled": "ahead ahead conflict conflict conflict stay",
    "on-hold": "follow follow follow follow conflict stay",
    None: "stay stay stay stay stay stay",
}


@pytest.mark.parametrize(("shop", "row"), NOTHING_HAS_LEFT.items())
def test_how_the_shop_answers_while_nothing_has_left(shop: str | None, row: str) -> None:
    assert [
        decide_inbound(shop, OrderStatus(reported), shipped=False).value for reported in WORDS
    ] == row.split()


@pytest.mark.parametrize(("shop", "row"), GOODS_HAVE_LEFT.items())
def test_how_the_shop_answers_once_goods_have_left(shop: str | None, row: str) -> None:
    assert [
        decide_inbound(shop, OrderStatus(reported), shipped=True).value for reported in WORDS
    ] == row.split()


AGREEING = {(word, word) for word in WORDS} | {("cancelled", "refunded")}


@pytest.mark.parametrize("shop", [*WORDS, "on-hold", "Shipped", None])
def test_the_shop_says_cancelled_of_what_was_paid_back_and_else_the_same_word(shop: str | None) -> None:
    found = {(shop, standing) for standing in WORDS if agree(shop, OrderStatus(standing))}
    assert found == {pair for pair in AGREEING if pair[0] == shop}


@pytest.mark.parametrize("standing", list(OrderStatus))
@pytest.mark.parametrize("goal", list(OrderStatus))
def test_a_path_leads_there_by_moves_that_the_contract_allows(
    standing: OrderStatus, goal: OrderStatus
) -> None:
    moves = path(standing, goal)
    assert bool(moves) is (STEPS[standing].split()[WORDS.index(goal)] == "forward")
    assert all(may_follow(before, after) for before, after in pairwise([standing, *moves]))
    assert moves[-1:] in ([], [goal])
    assert [call.status for call in status_updates(standing, goal)] == moves


# What speaks against telling 4Seller, by where it stands (the rows) and by the shop's word (the columns).
SHOPS_WORDS = ["pending", "processing", "shipped", "delivered", "cancelled", "refunded", "on-hold"]
UNTOLD = {
    "pending": "- - - - - - refused",
    "processing": "refused - - - - - refused",
    "shipped": "refused refused - - conflict - refused",
    "delivered": "refused refused refused - conflict - refused",
    "cancelled": "refused refused conflict conflict - - refused",
    "refunded": "refused refused conflict conflict - - refused",
}
UNTOLD_ONCE_LEFT = UNTOLD | {
    "pending": "- - - - conflict - refused",
    "processing": "refused - - - conflict - refused",
}


def judged(standing: str, shop: str | None, *, left: bool) -> str:
    """`-` where it may be told, else how it is refused."""
    against = objection(OrderStatus(standing), shop, shipped=left)
    return "-" if against is None else "conflict" if against.conflict else "refused"


@pytest.mark.parametrize("standing", WORDS)
def test_what_may_not_be_told(standing: str) -> None:
    while_open = [judged(standing, shop, left=False) for shop in SHOPS_WORDS]
    once_left = [judged(standing, shop, left=True) for shop in SHOPS_WORDS]
    assert while_open == UNTOLD[standing].split()
    assert once_left == UNTOLD_ONCE_LEFT[standing].split()
    assert judged(standing, None, left=True) == "-"  # the shop has deleted its order


@pytest.mark.parametrize("standing", WORDS)
@pytest.mark.parametrize("shop", WORDS)
def test_what_may_be_told_needs_a_call_exactly_where_the_two_differ(standing: str, shop: str) -> None:
    if judged(standing, shop, left=False) == "-":
        differ = not agree(shop, OrderStatus(standing))
        assert bool(status_updates(OrderStatus(standing), OrderStatus(shop))) is differ
