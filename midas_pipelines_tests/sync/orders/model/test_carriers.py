"""Tracking numbers: real formats accepted, mistyped ones refused, pages that follow the parcel."""

from types import SimpleNamespace

import pytest

from midas_pipelines.sync.orders.model.carriers import (
    BadTracking,
    find_carrier,
    recorded_tracking,
    tracking,
    usable_page,
)

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


# The carriers' own samples and those of public lists.
SAMPLES = {
    "USPS": """
        0307 1790 0005 2348 3741|7112 3456 7891 2345 6787|4201002334249200190132607600833457
        4201028200009261290113185417468510|420 22153 9101026837331000039521|7196 9010 7560 0307 7385
        9505 5110 6960 5048 6006 24|9101 1234 5678 9000 0000 13|92748931507708513018050063
        9400 1112 0108 0805 4830 16|9361 2898 7870 0317 6337 95|9405803699300124287899
        9400111899223818218407|9400111105501248829119|9405511105501272099215|RB123456785US""",
    "FedEx": """
        986578788855|477179081230|799531274483|790535312317|974367662710|1001921334250001000300779017972697
        1001901781990001000300617767839437|61299998820821171811|9261292700768711948021|0414 4176 0228 964
        5682 8361 0012 000|00 0123 4500 0000 0027|9611020987654312345672|9622001900000000000000776632517510""",
    "UPS": """
        1Z5R89390357567127|1Z879E930346834440|1Z410E7W0392751591|1Z8V92A70367203024|1z5r8 9390 3575 67127
        1ZXX3150YW44070023|1Z12345E6605272234|1Z 5R8\t9390357567127""",
    "DHL": """
        3318810025|73891051146|8487135506|1099255990|3821724944|JJD0099999999|JVGL0999999990|GM2951173225174494
        GM 2 9 5 117 32 25 1 7 44 9 4|JD014600006281230704|GM60511234500000001""",
    "Royal Mail": "RB123456785GB|rb 123 456 785 gb",
    "China Post": "RB123456785CN",
    "Canada Post": "0073938000549297|RN123456785CA",
}
MISTYPED = {
    "USPS": """
        0307 1790 0005 2348 3742|4201028200009261290113185417468511|61299998820821171811|9200000000000000000000
        RB123456786US|EA123456784US""",
    "FedEx": """
        996578788855|1001901781990001000300617767839438|9261292700768711948020|5682 8361 0012 732
        000000000000000001|9600000000000000000001|9622001560001234567100794808390595""",
    "UPS": "2Z5R89390357567127|1A5R89390357567127|1Z1111111111111111|1Z12345E0205271688|nonsense",
    "DHL": "3318810010|3318810034|XJD0099999998|GS295117494011169041",
    "Royal Mail": "RB123456786GB|JB123456784GB",
    "Canada Post": "0073938000549292|123456789012",
}
# Numbers of a carrier's other services, whose formats are not in the table.
UNUSUAL = {
    "UPS": "T9999999999|9261290100130739674493|H9205817377|K2479825491",
    "DHL": "LX295117494011169042|420761079261299998820821171811",
}


def each(table: dict[str, str]) -> list[tuple[str, str]]:
    """Carriers with one of their numbers each."""
    split = {
        carrier: [number.strip() for line in numbers.splitlines() for number in line.split("|")]
        for carrier, numbers in table.items()
    }
    return [(carrier, number) for carrier, numbers in split.items() for number in numbers if number]


@pytest.mark.parametrize(("carrier", "number"), each(SAMPLES))
def test_a_public_sample_is_taken_however_it_is_spelled(carrier: str, number: str) -> None:
    parcel = tracking(carrier, number)
    assert (parcel.carrier, parcel.number) == (carrier, "".join(number.split()).upper())


@pytest.mark.parametrize(("carrier", "number"), [*each(MISTYPED), *each(UNUSUAL)])
def test_a_number_that_the_formats_do_not_know_is_doubtful_and_a_person_may_insist(
    carrier: str, number: str
) -> None:
    with pytest.raises(BadTracking) as bad:
        tracking(carrier, number)
    assert bad.value.doubtful
    assert tracking(carrier, number, force=True).number == "".join(number.split()).upper()


NAMES = {
    "UPS": ["ups", "UPS Ground", "U.P.S.", "United Parcel Service", " ups ", "UPS_GROUND", "ups/next-day"],
    "USPS": ["usps", "USPS Priority", "U.S. Postal Service", "United States Postal Service", "usps_priority"],
    "FedEx": ["FEDEX", "FedEx Ground", "Fed Ex", "Federal Express", "fed-ex", "FEDEX_GROUND", "fedex-ground"],
    "DHL": ["dhl", "DHL Express", "DHL eCommerce", "DHL_PAKET"],
    "Royal Mail": ["royal mail", "RoyalMail", "ROYAL_MAIL_TRACKED_24"],
    "Canada Post": ["canadapost", "Canada Post"],
}
FIRST = dict(reversed(each(SAMPLES)))


@pytest.mark.parametrize("name", ["Upside Couriers", "Pigeon UPS", "Royal Post", "_", "12", ""])
def test_another_carrier_is_not_taken_for_one_of_the_table(name: str) -> None:
    assert find_carrier(name) is None


@pytest.mark.parametrize(("carrier", "name"), [(one, name) for one, names in NAMES.items() for name in names])
def test_a_carrier_is_known_by_each_of_its_names_and_services(carrier: str, name: str) -> None:
    assert tracking(name, FIRST[carrier]).carrier == carrier


PAGES = {
    "a script": "javascript:alert(1)",
    "no scheme": "www.ups.com/track",
    "half of one": "https://",
    "another scheme": "ftp://x.example/1",
    "spaces": "https://x.example/a b",
    "a line break": "https://x.example/\r\nSet-Cookie: x",
    "other letters": "https://x.example/ü",
    "too long": "https://x.example/" + "u" * 500,
    "brackets": "https://[x/1",
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("force", [False, True])
def test_a_page_that_no_browser_should_be_sent_to_is_refused(page: str, force: bool) -> None:
    with pytest.raises(BadTracking, match="address with https://"):
        tracking("UPS", "1Z5R89390357567127", url=page, force=force)
    assert usable_page(page) is None


@pytest.mark.parametrize("number", ["1Z５R89390357567127", "ABC\x00", "–", "١٢٣", "--", " ", "x" * 101])
@pytest.mark.parametrize("carrier", ["UPS", "Pigeon"])
def test_what_is_no_number_at_all_nobody_may_insist_on(carrier: str, number: str) -> None:
    with pytest.raises(BadTracking) as bad:
        tracking(carrier, number, force=True)
    assert not bad.value.doubtful


@pytest.mark.parametrize("number", ["a/b?c#d", "../../evil", "1&x=2", "<b>"])
def test_an_odd_number_adds_nothing_to_the_address_of_its_page(number: str) -> None:
    page = tracking("UPS", number, force=True).url
    assert page is not None
    assert page.startswith("https://www.ups.com/track?tracknum=")
    assert not set("?#&<>") & set(page.removeprefix("https://www.ups.com/track?tracknum="))


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
    assert tracking("UPS", "123456789", force=True).number == "123456789"


@pytest.mark.parametrize(
    ("carrier", "number", "sent"),
    [
        ("DHL", "00340434161094021501", "odd"),  # a parcel within Germany
        ("UPS", "MI1234567890123", "odd"),  # Mail Innovations
        ("FedEx", "61299998820821171811", "known"),
        ("USPS", "4209021094001", "odd"),
        ("DHL", "1234567890", "odd"),  # digits alone may be another service's
        ("UPS", "1Z999AA10123456789", "mistyped"),
        ("Royal Mail", "RB123456786GB", "mistyped"),
        ("UPS", "not a number", "mistyped"),
        ("Pigeon", "P-1", "known"),
    ],
)
def test_a_number_that_our_formats_do_not_know_is_sent_with_a_remark(
    carrier: str, number: str, sent: str
) -> None:
    row = SimpleNamespace(carrier=carrier, tracking_number=number, tracking_url=None, source="shop")
    if sent == "mistyped":
        with pytest.raises(BadTracking):
            recorded_tracking(row)
        return
    parcel, remark = recorded_tracking(row)
    assert (parcel.number, remark is None) == (number, sent == "known")
    by_hand = SimpleNamespace(**{**vars(row), "source": "operator"})
    assert recorded_tracking(by_hand) == (parcel, None)
