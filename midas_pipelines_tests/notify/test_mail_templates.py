"""Letters from templates, ours and a shop's own: what they say, and what a template that is wrong does."""

from __future__ import annotations

from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from midas_pipelines.notify.mail import CustomerMail
from midas_pipelines.notify.mail_templates import KINDS, BadTemplate, money, render_mail

EMAIL, NAME = "zoe@home.example", "Zoe Zweig"


def line(title: str = "Screen", **changes: Any) -> dict[str, Any]:
    return {"title": title, "sku": "A", "quantity": 2, "backordered": 0, "total": Decimal("20.00")} | changes


def facts(**changes: Any) -> dict[str, Any]:
    """What a template may name; `order__total=...` changes a part."""
    order = {"number": "114-0839", "local_number": "4S-114-0839", "channel": "eBay", "placed": "2026-11-24"}
    amounts = {
        "shipping": Decimal("4.99"),
        "tax": Decimal(0),
        "discount": Decimal(0),
        "total": Decimal("24.99"),
    }
    known: dict[str, Any] = {
        "shop": {"name": "Midas"},
        "customer": {"name": NAME, "email": EMAIL},
        "order": order | {"currency": "USD", "digits": 2, "sent": False} | amounts,
        "lines": [line()],
        "parcel": {"carrier": "UPS", "number": "1Z9", "url": "https://ups.example/1Z9"}
        | {"first": True, "complete": True, "known": False, "corrected": False},
    }
    for name, value in changes.items():
        part, _, field = name.partition("__")
        known[part] = known[part] | {field: value} if field else value
    return known


def write(kind: str = "received", folder: Path | None = None, **changes: Any) -> CustomerMail:
    return render_mail(kind, EMAIL, facts(**changes), folder=folder, key="midas-1")


def in_folder(folder: Path, **files: str | bytes) -> Path:
    """A folder with these templates; `received_txt` is `received.txt`."""
    for name, content in files.items():
        given = content if isinstance(content, bytes) else content.encode()
        (folder / name.replace("_", ".")).write_bytes(given)
    return folder


SAID: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "received": ("received", {}, "We have your order 114-0839", "24.99 USD"),
    "backordered": (
        "received",
        {"lines": [line(backordered=1)]},
        "We have your order 114-0839",
        "1 out of stock at the moment, ships later",
    ),
    "shipped": ("shipped", {}, "Your order 114-0839 is on its way", "https://ups.example/1Z9"),
    "in part": (
        "shipped",
        {"parcel__complete": False},
        "A part of your order 114-0839 is on its way",
        "rest will follow",
    ),
    "the rest": (
        "shipped",
        {"parcel__first": False},
        "The rest of your order 114-0839 is on its way",
        "est of your order has left our shop with UPS.",
    ),
    "the number alone": (
        "shipped",
        {"parcel__known": True},
        "The tracking number for your order 114-0839",
        "ou can track your package now; it ships with UPS.",
    ),
    "another number": (
        "shipped",
        {"parcel__corrected": True},
        "A new tracking number for your order 114-0839",
        "he tracking number that we sent you was wrong. This is the correct one; your package ships with UPS.",
    ),
    "cancelled": (
        "cancelled",
        {},
        "Your order 114-0839 is cancelled",
        "our payment will be refunded through eBay",
    ),
    "cancelled late": (
        "cancelled",
        {"order__sent": True},
        "Your order 114-0839 is cancelled",
        "nothing more of it will be sent",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_each_kind_says_the_same_in_text_and_html(case: str) -> None:
    kind, changes, subject, sentence = SAID[case]
    made = write(kind, **changes)
    assert (made.subject, made.to, made.key) == (subject, EMAIL, "midas-1")
    assert made.text.startswith(f"Hello {NAME},\n\n")
    assert f"Hello <bdi>{NAME}</bdi>," in made.html
    assert (sentence in made.text, sentence in made.html) == (True, True)
    assert (made.text.endswith("\n\nMidas\n"), "Order 114-0839, bought on eBay" in made.html) == (True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_known_leaves_no_hole(kind: str) -> None:
    nothing = {"carrier": None, "number": None, "url": None}
    made = write(
        kind, customer__name="", order__channel="", **{f"parcel__{n}": v for n, v in nothing.items()}
    )
    for part in (made.text, made.html):
        assert "None" not in part
        assert "Hello," in part
        assert " on  " not in part
        assert "with ." not in part


def test_the_text_reads_as_paragraphs_with_one_blank_line_between() -> None:
    text = write().text
    assert "\n\n\n" not in text
    assert text == text.strip() + "\n"
    assert [part.splitlines()[0].split()[0] for part in text.split("\n\n")] == [
        *("Hello", "thank", "2", "Shipping", "We", "Midas")
    ]


def test_amounts_stand_below_each_other_and_a_long_name_stands_above_its_own() -> None:
    long = "x" * 60
    lines = [line(quantity=12), line(long, backordered=1), line("Y" * 52)]
    text = write(lines=lines, order__tax=Decimal("1234.50"), order__discount=Decimal(3)).text
    rows = [row for row in text.splitlines() if row.startswith("  ")]
    amounts = [row for row in rows if row.endswith(" USD")]
    assert len({len(row) for row in amounts}) == 1
    assert [row.split()[-2] for row in amounts] == [*["20.00"] * 3, "4.99", "1,234.50", "-3.00", "24.99"]
    assert [row.strip() for row in rows[1:4:2]] == [
        f"2 x {long}",
        "1 out of stock at the moment, ships later",
    ]


def test_what_costs_nothing_is_not_listed() -> None:
    made = write(order__shipping=Decimal("0.00"))
    assert ["Shipping" in part for part in (made.text, made.html)] == [False, False]
    assert "0.00 USD" not in made.text.replace("20.00 USD", "")


MONEY = [
    ("1234.5", "USD", 2, "1,234.50 USD"),
    ("12800", "JPY", 0, "12,800 JPY"),
    ("9.999", "KWD", 3, "9.999 KWD"),
    ("0", "EUR", 2, "0.00 EUR"),
    ("-5", "EUR", 2, "-5.00 EUR"),
    ("1234567.89", "", 2, "1,234,567.89"),
]


@pytest.mark.parametrize(("amount", "currency", "digits", "read"), MONEY)
def test_amounts_are_written_as_people_read_them(amount: str, currency: str, digits: int, read: str) -> None:
    assert money(Decimal(amount), currency, digits) == read
    made = write(order__total=Decimal(amount), order__currency=currency, order__digits=digits)
    assert read in made.text
    assert read in made.html


class Tags(HTMLParser):
    """The tags of a page with the names of their attributes, and where links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name == "href"]


EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(1)>' onclick=x {{ 7*7 }} &lt;b&gt; ]]> -->"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_a_buyer_writes_becomes_a_tag(kind: str) -> None:
    harmless = Tags(write(kind).html)
    evil = write(
        kind,
        shop__name=EVIL,
        customer__name=EVIL,
        order__number=EVIL,
        order__channel=EVIL,
        lines=[line(EVIL, sku=EVIL)],
        parcel__carrier=EVIL,
        parcel__number=EVIL,
        parcel__url=f"https://x.example/{EVIL}",
    )
    assert Tags(evil.html).seen == harmless.seen
    assert Tags(evil.html).links == ([f"https://x.example/{EVIL}"] if harmless.links else [])
    assert EVIL in evil.text  # plain text is as it is
    assert "49" not in evil.text


@pytest.mark.parametrize(
    ("files", "text", "html"),
    [
        ({"received_txt": "Danke {{ order.number }}\nBis bald!"}, "Bis bald!\n", "Thank you for your order"),
        ({"received_html": "<p>Danke</p>"}, "Hello Zoe Zweig,", "<p>Danke</p>"),
        (
            {"layout_html": "<h2>Eigen</h2>{% block body %}{% endblock %}"},
            "Hello Zoe Zweig,",
            "<h2>Eigen</h2>",
        ),
        (
            {"items_html": "{% macro items(a, b, c) %}<i>{{ a | length }} x</i>{% endmacro %}"},
            "Hello",
            "<i>1 x</i>",
        ),
        ({"shipped_txt": "{{ of another kind }}", "readme_md": "{{"}, "Hello", "Thank you for your order"),
    ],
)
def test_a_shop_replaces_one_file_and_keeps_the_others(
    tmp_path: Path, files: dict[str, str], text: str, html: str
) -> None:
    made = write(folder=in_folder(tmp_path, **files))
    assert made.text.startswith(text)
    assert html in made.html


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_template_of_windows_editors_is_read(tmp_path: Path, ends: str) -> None:
    content = f"\ufeffOrder {{{{ order.number }}}}{ends}{ends}Grüße{ends}".encode()
    made = write(folder=in_folder(tmp_path, received_txt=content))
    assert (made.subject, made.text) == ("Order 114-0839", "Grüße\n")


BROKEN = {
    "an open tag": ("received.txt", "Hello {{ order.number \nHi", "received.txt, line 2"),
    "an empty tag": ("received.html", "<p>\n{% if %}", "received.html, line 2"),
    "a fact that is not there": (
        "received.txt",
        "{{ order.nothing }}\nHi",
        "line 1, is wrong: it uses an undefined name, in {{ order.nothing }}",
    ),
    "a line that is not there": (
        "received.txt",
        "{{ lines[5].title }}\nHi",
        "it uses an undefined name, in {{ lines[5].title }}",
    ),
    "a filter that is not there": ("received.txt", "{{ order.total | euros }}\nHi", "'euros'"),
    "a file that is not there": (
        "received.html",
        "{% include 'foot.html' %}",
        "it names a missing file",
    ),
    "a macro that is not there": ("items.html", "nothing", "{{ items(lines, order, true) }}"),
    "another code page": (
        "received.txt",
        "Gr\xfc\xdfe\nHi".encode("latin-1"),
        "received.txt is wrong: Unicode",
    ),
    "a division by zero": ("received.txt", "{{ 1/0 }}\nHi", "ZeroDivisionError"),
    "a sum of unlike things": ("received.txt", "{{ customer.email + 1 }}\nHi", "TypeError"),
    "a number that is none": ("received.txt", "{{ '%d' % customer.name }}\nHi", "TypeError"),
    "an amount of text": ("received.html", "{{ customer.name | money('USD') }}", "ValueError"),
    "itself": ("received.html", "{% include 'received.html' %}", "RecursionError"),
    "more than anybody reads": ("received.txt", "{% for i in range(10**8) %}x{% endfor %}", "OverflowError"),
    "a fact named by a fact": ("received.txt", "\n{{ customer[customer.email] }}", "received.txt, line 2"),
    "a file named by a fact": ("received.txt", "\n{% include customer.email %}", "received.txt, line 2"),
    "a fact made of a fact": (
        "received.txt",
        "{{ order[customer.email | upper] }}\nHi",
        "received.txt, line 1",
    ),
    "a file half saved": ("received.txt", "", "received.txt is wrong: its subject is empty"),
    "nothing but lines": ("received.txt", "\n\n", "received.txt is wrong: its subject is empty"),
    "a subject alone": ("received.txt", "Order {{ order.number }}\n \n", "its text is empty"),
    "no page": ("received.html", "\n", "received.html is wrong: its page is empty"),
    "a look behind the curtain": ("received.txt", "{{ ''.__class__.__mro__ }}\nHi", "unsafe"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_template_that_is_wrong_is_named_and_shows_no_buyer(tmp_path: Path, case: str) -> None:
    name, content, sentence = BROKEN[case]
    folder = in_folder(tmp_path, **{name.replace(".", "_"): content})
    with pytest.raises(BadTemplate) as wrong:
        write(folder=folder)
    assert sentence in str(wrong.value)
    assert str(wrong.value).startswith("The mail template ")
    assert "zo" not in str(wrong.value).lower()
    assert str(tmp_path) not in str(wrong.value)
    assert wrong.value.__context__ is None or wrong.value.__suppress_context__


@pytest.mark.parametrize("made", ["nothing", "a file"])
def test_a_folder_that_is_none_names_the_setting(tmp_path: Path, made: str) -> None:
    folder = tmp_path / "templates"
    if made == "a file":
        folder.write_text("x")
    with pytest.raises(BadTemplate, match="MIDAS_MAIL_TEMPLATES is not a folder"):
        write(folder=folder)


def test_what_a_template_includes_is_named_by_where_it_is_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "foot.html").write_text("<hr>\n" + "x" * 200 + "{{ shop.street }}")
    with pytest.raises(BadTemplate, match=r"parts/foot\.html, line 2, .* in x{159}…$"):
        write(folder=in_folder(tmp_path, received_html="{% include 'parts/foot.html' %}"))


def test_a_template_is_read_anew_once_it_is_mended(tmp_path: Path) -> None:
    with pytest.raises(BadTemplate):
        write(folder=in_folder(tmp_path, received_txt="{{ order.nothing }}"))
    assert write(folder=in_folder(tmp_path, received_txt="Mended\nHi")).subject == "Mended"
