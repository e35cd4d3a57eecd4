"""How a person who was erased comes back, or is asked about still; a case leaves this file when it is mended."""

from __future__ import annotations

import pytest

from midas_pipelines_tests.gateway.running import PAYLOAD_KEY, running_gateway
from midas_pipelines_tests.notify.smtp import Mailbox
from midas_pipelines_tests.shop import run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.letterbox import send
from midas_pipelines_tests.sync.orders.test_forgetting import (
    changes_lines,
    forget,
    left_of_the_person,
    polls,
    receive,
    sold,
    world,  # noqa: F401 - a fixture
)
from midas_pipelines_tests.sync.world import World

UNREADABLE = "999999999999"


@pytest.mark.xfail(strict=True, reason="each poll keeps the order anew, sealed with its buyer")
def test_an_order_that_is_set_aside_is_polled_again(world: World) -> None:  # noqa: F811
    order = sold(world, total=UNREADABLE)
    forget(world, order)
    assert left_of_the_person(world) == set()
    polls(world, order)
    assert left_of_the_person(world) == set()


@pytest.mark.xfail(
    strict=True, reason="only the shop's order knows that its buyer is forgotten, and there is none yet"
)
def test_an_order_that_was_set_aside_is_mended_and_imported(world: World) -> None:  # noqa: F811
    order = sold(world, total=UNREADABLE)
    forget(world, order)
    changes_lines(world, order)
    assert desk.order(world, order).outcome == "imported"
    assert left_of_the_person(world) == set()


@pytest.mark.xfail(
    strict=True, reason="only the shop's order knows that its buyer is forgotten, and it is gone"
)
def test_an_order_that_the_shop_deleted_is_edited(world: World) -> None:  # noqa: F811
    order = sold(world)
    forget(world, order)
    run(world.database, "DELETE FROM orders")
    changes_lines(world, order)
    assert left_of_the_person(world) == set()


@pytest.mark.xfail(
    strict=True, reason="an event that waits is left as it is, and nobody empties it afterwards"
)
def test_an_event_that_waited_is_applied(world: World) -> None:  # noqa: F811
    world.changes["payload_key"] = PAYLOAD_KEY
    order = sold(world)
    receive(world, order, processed=False)
    forget(world, order)
    with running_gateway(world) as gateway:
        gateway.settled()
    assert left_of_the_person(world) == set()


@pytest.mark.xfail(strict=True, reason="the inbox does not ask whether the buyer of an order is forgotten")
def test_an_event_comes_later(world: World) -> None:  # noqa: F811
    world.changes["payload_key"] = PAYLOAD_KEY
    order = sold(world)
    forget(world, order)
    with running_gateway(world) as gateway:
        gateway.tell("order.updated", world.sandbox.state.orders[order])
        gateway.settled()
    assert left_of_the_person(world) == set()


@pytest.mark.xfail(
    strict=True, reason="nothing can be sent any more, and nothing but sending closes the alert"
)
def test_an_alert_about_a_message_that_was_given_up(world: World, box: Mailbox) -> None:  # noqa: F811
    box.answers = ["550 spam"]
    order = sold(world)
    send(world)
    forget(world, order)
    assert desk.alerts(world) == []
