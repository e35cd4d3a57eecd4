"""Tracking numbers: real formats accepted, mistyped ones refused, pages that follow the parcel."""

import pytest

from midas_pipelines.sync.orders.carriers import BadTracking, tracking

GOOD = [
    ("UPS", "1Z999AA10123456784"),
    ("ups", "1z 999 aa1 01 2345 6784"),
    ("U.P.S.", "1Z5R89390357567127"),
    ("FedEx", "986578788855"),
    ("fed ex", "4771-7908-1230"),
    ("FedEx", "039813852990618"),
    ("DHL Express", "3318810025"),
    ("USPS", "9400111202555842332669"),
    ("USPS", "RB123456785US"),
    ("Royal Mail", "RB123456785GB"),
]
BAD = [
    ("UPS", "1Z999AA10123456785"),
    ("UPS", "986578788855"),
    ("FedEx", "986578788856"),
    ("DHL", "3318810026"),
    ("USPS", "RB123456784US"),
    ("USPS", "hello"),
    ("FedEx", ""),
    ("", "1Z999AA10123456784"),
    ("Pigeon", "x" * 101),
    ("Pigeon", "🐦"),
]


@pytest.mark.parametrize(("carrier", "number"), GOOD)
def test_a_real_number_is_taken_with_its_page(carrier: str, number: str) -> None:
    parcel = tracking(carrier, number)
    assert parcel.url is not None
    assert parcel.number is not None
    assert parcel.url.endswith(parcel.number)
    assert " " not in parcel.number


@pytest.mark.parametrize(("carrier", "number"), BAD)
def test_a_number_that_cannot_be_right_is_refused_in_words(carrier: str, number: str) -> None:
    with pytest.raises(BadTracking, match=r"\.$"):
        tracking(carrier, number)


@pytest.mark.parametrize("place", range(2, 18))
def test_a_digit_mistyped_in_a_ups_number_is_noticed(place: int) -> None:
    number = "1Z999AA10123456784"
    for wrong in "0123456789":
        # UPS's own rule cannot tell digits five apart where it doubles them.
        if number[place].isdigit() and (int(wrong) - int(number[place])) % 5:
            with pytest.raises(BadTracking):
                tracking("UPS", number[:place] + wrong + number[place + 1 :])


def test_an_unknown_carrier_is_taken_as_it_is() -> None:
    parcel = tracking("Kurier Müller", "AB-12", url="https://k.example/AB12")
    assert (parcel.carrier, parcel.number, parcel.url) == ("Kurier Müller", "AB-12", "https://k.example/AB12")


def test_a_person_may_insist() -> None:
    assert tracking("UPS", "123456789", anyway=True).number == "123456789"
