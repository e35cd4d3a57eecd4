"""Mail from templates, ours and a shop's own: what it says, and what a wrong template does."""

from __future__ import annotations

from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from midas_pipelines.notify.mail import CustomerMail, MailError
from midas_pipelines.notify.mail_templates import money, render_mail

EMAIL, NAME = "zoe@home.example", "Zoe Zweig"
KINDS = ("received", "shipped", "cancelled")


def line(title: str = "Screen", **changes: Any) -> dict[str, Any]:
    return {"title": title, "quantity": 2, "backordered": 0, "total": Decimal("20.00")} | changes


def facts(**changes: Any) -> dict[str, Any]:
    """What a template may name; `order__total=...` changes a part."""
    amounts = {
        "shipping": Decimal("4.99"),
        "tax": Decimal(0),
        "discount": Decimal(0),
        "total": Decimal("24.99"),
    }
    known: dict[str, Any] = {
        "shop": {"name": "Midas"},
        "customer": {"name": NAME, "email": EMAIL},
        "order": {"number": "114-0839", "channel": "eBay"}
        | {"placed": "2026-11-24", "currency": "USD", "digits": 2}
        | amounts,
        "lines": [line()],
        "shipment": {"carrier": "UPS", "number": "1Z9", "url": "https://ups.example/1Z9"}
        | {"complete": True},
    }
    for name, value in changes.items():
        part, _, field = name.partition("__")
        known[part] = known[part] | {field: value} if field else value
    return known


def write(kind: str = "received", folder: Path | None = None, **changes: Any) -> CustomerMail:
    return render_mail(kind, EMAIL, facts(**changes), folder=folder, key="midas-1")


ONE_OF_TWO: dict[str, Any] = {"shipment__complete": False}
SAID: list[tuple[str, dict[str, Any], str, str]] = [
    ("received", {}, "We have your order 114-0839", "24.99 USD"),
    ("shipped", {}, "Your order 114-0839 is on its way", "https://ups.example/1Z9"),
    ("shipped", ONE_OF_TWO, "A part of your order 114-0839 is on its way", "rest ships separately"),
    ("cancelled", {}, "Your order 114-0839 is cancelled", "Any refund comes through eBay"),
]


@pytest.mark.parametrize(("kind", "changes", "subject", "sentence"), SAID)
def test_text_and_html_say_the_same(kind: str, changes: dict[str, Any], subject: str, sentence: str) -> None:
    made = write(kind, **changes)
    assert (made.subject, made.to, made.key) == (subject, EMAIL, "midas-1")
    assert made.text.startswith(f"Hello {NAME},\n\n")
    assert f"Hello <bdi>{NAME}</bdi>," in made.html
    assert (sentence in made.text, sentence in made.html) == (True, True)
    assert (made.text.endswith("\n\nMidas\n"), "\n\n\n" in made.text) == (True, False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_unknown_leaves_no_gap(kind: str) -> None:
    unknown = {f"shipment__{name}": None for name in ("carrier", "number", "url")}
    made = write(kind, customer__name="", order__channel="", **unknown)
    for part in (made.text, made.html):
        assert "Hello," in part
        assert [gap for gap in ("None", " on  ", "with .") if gap in part] == []


def test_amounts_are_aligned_and_zeros_left_out() -> None:
    long = "x" * 60
    lines = [line(quantity=12), line(long, backordered=1), line("Y" * 52)]
    text = write(lines=lines, order__tax=Decimal("1234.50"), order__shipping=Decimal(0)).text
    amounts = [row for row in text.splitlines() if row.startswith("  ") and row.endswith(" USD")]
    assert len({len(row) for row in amounts}) == 1
    assert [row.split()[-2] for row in amounts] == [*["20.00"] * 3, "1,234.50", "24.99"]
    assert f"  2 x {long}\n" in text


@pytest.mark.parametrize(
    ("amount", "currency", "digits", "shown"),
    [
        ("1234.5", "USD", 2, "1,234.50 USD"),
        ("12800", "JPY", 0, "12,800 JPY"),
        ("-5", "EUR", 2, "-5.00 EUR"),
        ("9.999", "KWD", 3, "9.999 KWD"),
        ("7.5", "", 2, "7.50"),
    ],
)
def test_amounts_have_the_digits_of_their_currency(
    amount: str, currency: str, digits: int, shown: str
) -> None:
    assert money(Decimal(amount), currency, digits) == shown


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
    words = {"shop__name": EVIL, "customer__name": EVIL, "order__number": EVIL, "order__channel": EVIL}
    labels = {
        "shipment__carrier": EVIL,
        "shipment__number": EVIL,
        "shipment__url": f"https://x.example/{EVIL}",
    }
    evil = write(kind, lines=[line(EVIL)], **words, **labels)
    assert Tags(evil.html).seen == harmless.seen
    assert Tags(evil.html).links == ([f"https://x.example/{EVIL}"] if harmless.links else [])
    assert (EVIL in evil.text, "49" in evil.text) == (True, False)


@pytest.mark.parametrize(
    ("name", "content", "text", "html"),
    [
        ("received.txt", "\ufeffDanke\r\n\r\nBis bald!\r\n", "Bis bald!\n", "Thank you for your order"),
        ("received.html", "<p>Danke</p>", "Hello Zoe Zweig,", "<p>Danke</p>"),
        ("layout.html", "<h2>Eigen</h2>{% block body %}{% endblock %}", "Hello Zoe Zweig,", "<h2>Eigen</h2>"),
        ("shipped.txt", "{{ of another kind }}", "Hello", "Thank you for your order"),
    ],
)
def test_a_shop_replaces_one_file_and_keeps_the_others(
    tmp_path: Path, name: str, content: str, text: str, html: str
) -> None:
    (tmp_path / name).write_bytes(content.encode())
    made = write(folder=tmp_path)
    assert (made.text.startswith(text), html in made.html) == (True, True)


BROKEN = [
    ("received.txt", b"Hi {{ order.number \nHi", "received.txt, line 2, is wrong: TemplateSyntaxError"),
    ("received.txt", b"A\n\n{{ order.nothing }}", "received.txt, line 3, is wrong: UndefinedError"),
    ("received.html", b"<hr>\n{% include 'foot.html' %}", "received.html, line 2,"),
    ("received.txt", b"Gr\xfc\xdfe\nHi", "received.txt is wrong: UnicodeDecodeError"),
    ("received.txt", b"{{ customer.email + 1 }}\nHi", "line 1, is wrong: TypeError"),
    ("received.txt", b"{% for i in range(10**8) %}x{% endfor %}", "OverflowError"),
    ("received.txt", b"\n{{ customer[customer.email] }}", "received.txt, line 2,"),
    ("received.txt", b"Order\n \n", "received is wrong: its subject, text or page is empty"),
    ("received.txt", b"{{ ''.__class__.__mro__ }}\nHi", "SecurityError"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BROKEN)
def test_a_wrong_template_is_named_with_its_line_and_no_buyer(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MailError, match=r"^The mail template ") as wrong:
        write(folder=tmp_path)
    assert (sentence in str(wrong.value), wrong.value.retry) == (True, True), str(wrong.value)
    assert "zo" not in str(wrong.value).lower()
    assert str(tmp_path) not in str(wrong.value)
    (tmp_path / name).unlink()
    write(folder=tmp_path)  # it is read again once it is fixed


def test_a_missing_folder_is_named_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(MailError, match="MIDAS_MAIL_TEMPLATES is not a folder"):
        write(folder=tmp_path / "templates")
