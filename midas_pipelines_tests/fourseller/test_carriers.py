"""Tracking numbers: which are taken, which get a remark, and pages that follow the shipment."""

import pytest

from midas_pipelines.fourseller.carriers import (
    BadTracking,
    find_carrier,
    recorded_tracking,
    tracking,
    usable_page,
)

# The carriers' own samples and those of public lists.
SAMPLES = {
    "USPS": """
        0307 1790 0005 2348 3741|4201002334249200190132607600833457|4201028200009261290113185417468510
        420 22153 9101026837331000039521|9505 5110 6960 5048 6006 24|92748931507708513018050063
        9400111899223818218407|RB123456785US""",
    "FedEx": """
        986578788855|4771-7908-1230|1001921334250001000300779017972697|61299998820821171811
        9261292700768711948021|0414 4176 0228 964|00 0123 4500 0000 0027|9611020987654312345672""",
    "UPS": "1Z5R89390357567127|1ZXX3150YW44070023|1z5r8 9390 3575 67127|1Z 5R8\t9390357567127",
    "DHL": """
        3318810025|73891051146|JJD0099999999|JVGL0999999990|GM2951173225174494|JD014600006281230704
        GM 2 9 5 117 32 25 1 7 44 9 4""",
    "Royal Mail": "RB123456785GB|rb 123 456 785 gb",
    "China Post": "RB123456785CN",
    "Canada Post": "0073938000549297|RN123456785CA",
}
# Mistyped ones, and those of a carrier's other services: UPS Mail Innovations, parcels within Germany.
UNUSUAL = {
    "UPS": "2Z5R89390357567127|1Z1111111111111111111|T9999999999|9261290100130739674493|MI1234567890123|986578788855",
    "DHL": "LX295117494011169042|420761079261299998820821171811|00340434161094021501",
    "USPS": "4209021094001|ABC1",
    "Canada Post": "123456789012",
}


def each(table: dict[str, str]) -> list[tuple[str, str]]:
    """Carriers with one of their numbers each."""
    split = {carrier: numbers.replace("\n", "|").split("|") for carrier, numbers in table.items()}
    return [(carrier, number) for carrier, numbers in split.items() for number in numbers if number.strip()]


@pytest.mark.parametrize(("carrier", "number"), each(SAMPLES))
def test_a_public_sample_is_taken_with_its_page(carrier: str, number: str) -> None:
    label = tracking(carrier, number)
    bare = "".join(number.replace("-", "").split()).upper()
    assert (label.carrier, label.number, str(label.url).endswith(bare)) == (carrier, bare, True)


@pytest.mark.parametrize(("carrier", "number"), each(UNUSUAL))
def test_an_unusual_number_needs_force_and_is_passed_on_as_given_with_a_remark(
    carrier: str, number: str
) -> None:
    with pytest.raises(BadTracking, match=r"does not look like a .*`force` accepts it\.$"):
        tracking(carrier, number)
    label, remark = recorded_tracking(carrier, number, None)
    assert (label.number, "compare it with the label" in str(remark)) == (number, True)
    assert tracking(carrier, number, force=True) == label


NAMES = {
    "UPS": ["ups", "UPS Ground", "U.P.S.", "United Parcel Service", " ups ", "UPS_GROUND", "ups/next-day"],
    "USPS": ["usps", "USPS Priority", "U.S. Postal Service", "United States Postal Service"],
    "FedEx": ["FEDEX", "FedEx Ground", "Fed Ex", "Federal Express", "fed-ex", "FEDEX_GROUND"],
    "DHL": ["dhl", "DHL Express", "DHL eCommerce", "DHL_PAKET"],
    "Royal Mail": ["royal mail", "RoyalMail", "ROYAL_MAIL_TRACKED_24"],
}


@pytest.mark.parametrize("carrier", NAMES)
def test_a_carrier_is_known_by_its_names_and_services(carrier: str) -> None:
    found = {name: getattr(find_carrier(name), "names", [None])[0] for name in NAMES[carrier]}
    assert found == dict.fromkeys(NAMES[carrier], carrier)


@pytest.mark.parametrize("name", ["Upside Couriers", "Pigeon UPS", "Royal Post", "_", "12", ""])
def test_another_carrier_is_not_taken_for_one_of_the_table(name: str) -> None:
    assert find_carrier(name) is None


def test_an_unknown_carrier_is_taken_by_its_name() -> None:
    label = tracking("Kurier Müller", "AB-12", url="https://k.example/AB12")
    assert (label.carrier, label.number, label.url) == ("Kurier Müller", "AB-12", "https://k.example/AB12")


@pytest.mark.parametrize(
    "page",
    [
        *("javascript:alert(1)", "www.ups.com/track", "https://", "ftp://x.example/1", "https://[x/1"),
        *("https://x.example/a b", "https://x.example/\r\nSet-Cookie: x", "https://x.example/ü"),
        "https://x.example/" + "u" * 500,
    ],
)
def test_a_page_that_no_browser_should_open_is_refused(page: str) -> None:
    with pytest.raises(BadTracking, match="address with https://"):
        tracking("UPS", "1Z5R89390357567127", url=page, force=True)
    assert usable_page(page) is None


@pytest.mark.parametrize(
    "number", ["1Z५R89390357567127", "ABC1\x00", "–", "١٢٣", "--", " ", "", "x1" * 51, "not a number"]
)
@pytest.mark.parametrize("carrier", ["UPS", "Pigeon", ""])
def test_what_is_no_number_is_refused_even_with_force(carrier: str, number: str) -> None:
    with pytest.raises(BadTracking, match=r"\.$"):
        tracking(carrier, number, force=True)


@pytest.mark.parametrize("number", ["a/b?c#d1", "../../evil1", "1&x=2", "<b>1"])
def test_an_odd_number_adds_nothing_to_the_address_of_its_page(number: str) -> None:
    start, page = "https://www.ups.com/track?tracknum=", tracking("UPS", number, force=True).url
    assert page is not None
    assert (page.startswith(start), set("?#&<>") & set(page.removeprefix(start))) == (True, set())
