"""Which calls tell 4Seller of an order's move and parcels."""

import pytest

from midas_pipelines.fourseller.contract import next_statuses
from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.sync.orders.status.outbound import ShipmentToPush, StatusUpdate, next_call

CASES = [
    ("pending", "processing", 0, ["processing"]),
    ("pending", "shipped", 0, ["processing", "shipped"]),
    ("pending", "shipped", 1, ["processing", "shipped+1"]),
    ("processing", "shipped", 2, ["processing+1", "shipped+2"]),
    ("pending", "delivered", 2, ["processing", "processing+1", "shipped+2", "delivered"]),
    ("pending", None, 1, ["processing+1"]),
    ("pending", "processing", 1, ["processing+1"]),
    ("processing", None, 2, ["processing+1", "processing+2"]),
    ("shipped", None, 1, ["shipped+1"]),
    ("shipped", "delivered", 1, ["delivered+1"]),
    ("pending", "cancelled", 0, ["cancelled"]),
    ("processing", "cancelled", 1, ["cancelled"]),
    ("cancelled", None, 1, []),
    ("shipped", "processing", 0, []),
    ("shipped", "cancelled", 0, []),
    ("cancelled", "shipped", 0, []),
]


def calls_from(
    current: OrderStatus, goal: OrderStatus | None, shipments: list[ShipmentToPush]
) -> list[StatusUpdate]:
    """Every call, one after the other."""
    made, left = list[StatusUpdate](), list(shipments)
    while (call := next_call(made[-1].status if made else current, goal, left)) is not None:
        made.append(call)
        left = [one for one in left if one is not call.shipment]
    return made


@pytest.mark.parametrize(("standing", "goal", "parcels", "calls"), CASES)
def test_the_calls(standing: str, goal: str | None, parcels: int, calls: list[str]) -> None:
    given = [
        ShipmentToPush(number, Tracking(carrier="X", number=str(number))) for number in range(1, parcels + 1)
    ]
    made = calls_from(OrderStatus(standing), OrderStatus(goal) if goal else None, given)
    assert [call.status.value + (f"+{call.shipment.row}" if call.shipment else "") for call in made] == calls


@pytest.mark.parametrize("standing", list(OrderStatus))
@pytest.mark.parametrize("goal", [None, *OrderStatus])
@pytest.mark.parametrize("parcels", [0, 1, 3])
def test_every_call_is_one_that_the_contract_allows_and_no_parcel_is_told_twice(
    standing: OrderStatus, goal: OrderStatus | None, parcels: int
) -> None:
    given = [ShipmentToPush(number, Tracking(carrier="X", number=str(number))) for number in range(parcels)]
    made = calls_from(standing, goal, given)
    for before, after in zip([standing, *(call.status for call in made)], made, strict=False):
        assert before is after.status or after.status.value in next_statuses()[before.value]
    told = [call.shipment for call in made if call.shipment is not None]
    assert told in ([], given)
