"""One mail: its headers, its address, and what each answer of a real SMTP server means."""

from __future__ import annotations

from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from midas_pipelines.mail_address import in_ascii
from midas_pipelines.notify import mail
from midas_pipelines.notify.mail import CustomerMail, MailError, SmtpConnection, money, render_mail
from midas_pipelines_tests.notify.smtp import DROP, HANG, Mailbox, self_signed

SENDER = "Midas <orders@shop.example>"
SECRET = "hunter2"
DOWN, LATER, REFUSED, UNSURE = (True, True), (True, False), (False, False), (False, True)
"""`retry` and `down` of an error."""


def letter(to: str = "ann@home.example", **changes: str) -> CustomerMail:
    given = {"subject": "Your order", "text": "Hello\n", "html": "<p>Hello</p>", "key": "midas-1-received-0"}
    return CustomerMail(to, **(given | changes))


def post(url: str, *letters: CustomerMail, sender: str = SENDER, encrypted: bool = False) -> MailError | None:
    """Sends the letters over one connection; the error, None when all were accepted."""
    try:
        with SmtpConnection(url, sender, encrypted=encrypted) as smtp:
            for one in letters or (letter(),):
                smtp.send(one)
    except MailError as error:
        return error
    return None


def kind(error: MailError | None) -> tuple[bool, bool] | None:
    return None if error is None else (error.retry, error.down)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("  ann@home.example ", "ann@home.example"),
        ("Ann.O'Neil+shop@home.example", "Ann.O'Neil+shop@home.example"),
        ("ann@müller.example", "ann@xn--mller-kva.example"),
        ("ann@[192.0.2.1]", "ann@[192.0.2.1]"),
        ("ann@home.example\u200b", "ann@home.example"),
    ],
)
def test_an_address_is_written_as_servers_accept_it(given: str, sent: str) -> None:
    assert (in_ascii(given), mail.compose(letter(given), SENDER)[0]) == (sent, sent)


HIDDEN = "=?utf-8?b?MQ0KQmNjOiB4QGV2aWwuZXhhbXBsZQ0KDQpFdmlsIGJvZHk=?="  # 1, a Bcc, and a body


@pytest.mark.parametrize(
    "address",
    [
        *("", "@", "zoe", "zoe@", "@zoe.example", "zoe<@x", "<zoe@home.example>", "zoe @home.example"),
        *("zoe@\x00home.example", "zoe@home.example, bob@home.example", "zoe@home.example;bob@home.example"),
        *("zoe@@home.example", ".zoe@home.example", "zoe@home..example", '"zo e"@home.example'),
        *("zoë@home.example", "zoe@" + "ä" * 70 + ".example", "zoe@home.example\r\nBcc: a@b.c"),
        *(f"{HIDDEN}@home.example", f"zoe@{HIDDEN}", "zoe=?utf-8?q?=0A?=@home.example"),
        "z" * 300 + "@home.example",
    ],
)
def test_an_invalid_address_is_refused_and_not_quoted(address: str) -> None:
    with pytest.raises(MailError, match=r"^The customer's or the sender's address is invalid\.$") as error:
        mail.compose(letter(address), SENDER)
    assert (kind(error.value), error.value.__cause__) == (REFUSED, None)


@pytest.mark.parametrize(
    "sender", ["Midas", "a@b@c <x@y>", "M\0 <a@shop.example>", "M" * 5000 + " <a@shop.example>"]
)
def test_an_invalid_sender_is_refused(sender: str) -> None:
    with pytest.raises(MailError, match="sender's address"):
        mail.compose(letter(), sender)


@pytest.mark.parametrize("part", ["subject", "key"])
@pytest.mark.parametrize(
    "text",
    [
        f"Order {HIDDEN} received",
        "Order =?utf-8?q?1=0D=0ABcc:_x@evil.example=0D=0A=0D=0AEvil_body?=",
        "Order 1\r\nBcc: x@evil.example\r\n\r\nEvil body",
        "Order 1\rBcc: x@evil.example\x0b\x0c\x85\u2028\x00",
        "Order \u00fc\r\n =?utf-8?b?DQpCY2M6IHg=?=\r\n",
        "=\r\n?utf-8?b?DQpCY2M6IHg=?=",
    ],
)
def test_a_text_from_outside_makes_no_header(text: str, part: str) -> None:
    with Mailbox() as box:
        assert post(box.url, letter(**{part: text})) is None
    head, _, body = box.raw[0].partition(b"\r\n\r\n")
    names = [line.split(b":")[0] for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    expected = [b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"MIME-Version"]
    assert [name for name in names if name not in (b"X-Peer", b"Content-Type")] == expected
    assert b"Evil body" not in body
    assert "\n" not in str(box.mails[0]["Subject"])


def test_a_mail_survives_the_connection_in_seven_bits_and_with_dots() -> None:
    text, html = "Grüße, 山田 太郎 😀 " * 90 + "\n.\n..\n=20\nends\n.", "<p>" + "ä" * 3000 + "</p>"
    with Mailbox() as box:
        assert post(box.url, letter(text=text, html=html), letter(text=text, html=html)) is None
    assert (box.connections, len(box.mails), max(box.raw[0]) < 128) == (1, 2, True)
    assert max(len(line) for line in box.raw[0].split(b"\r\n")) <= 998
    for arrived in box.mails:
        plain, rich = arrived.get_body(("plain",)), arrived.get_body(("html",))
        assert plain is not None
        assert rich is not None
        assert plain.get_content().replace("\r\n", "\n").rstrip("\n") == text
        assert rich.get_content().strip() == html
        assert arrived["Message-ID"] == "<midas-1-received-0@shop.example>"
        assert arrived["Auto-Submitted"] == "auto-generated"


ANSWERS = [
    *(("CONNECT", "421 4.3.2 shutting down", DOWN), ("CONNECT", "no greeting at all", DOWN)),
    *(("MAIL", "451 later", DOWN), ("MAIL", "553 sender rejected", DOWN)),
    *(("RCPT", "450 greylisted", LATER), ("RCPT", "550 5.1.1 ann@home.example is not here", REFUSED)),
    *(("DATA", "451 4.3.0 later", LATER), ("LETTER", "421 shutting down", LATER)),
    *(("LETTER", "451 later", LATER), ("LETTER", "554 5.7.1 this is spam", REFUSED)),
    *(("CONNECT", DROP, DOWN), ("MAIL", DROP, DOWN), ("RCPT", DROP, DOWN), ("LETTER", DROP, UNSURE)),
    *(("CONNECT", HANG, DOWN), ("LETTER", HANG, UNSURE)),
]


@pytest.mark.parametrize(("place", "answer", "meaning"), ANSWERS)
def test_an_answer_decides_whether_the_mail_is_retried(
    monkeypatch: pytest.MonkeyPatch, place: str, answer: str, meaning: tuple[bool, bool]
) -> None:
    monkeypatch.setattr(mail, "SECONDS", 0.3 if answer == HANG else 5)
    with Mailbox() as box:
        box.at[place] = answer
        error = post(box.url)
    assert (kind(error), str(error).endswith(".")) == (meaning, True)
    assert answer.partition(" ")[2] not in str(error) or answer in (DROP, HANG)  # it may quote anybody


@pytest.mark.parametrize("url", ["smtp://127.0.0.1:9", f"smtp://{'a' * 70}.example", "smtps://127.0.0.1:9"])
def test_a_server_that_is_not_there_is_down(url: str) -> None:
    assert kind(post(url)) == DOWN


def test_a_refusal_opens_a_new_connection_for_the_next_mail() -> None:
    with Mailbox() as box:
        box.refused["bob@home.example"] = "550 not here"
        with SmtpConnection(box.url, SENDER) as smtp:
            smtp.send(letter())
            with pytest.raises(MailError):
                smtp.send(letter("bob@home.example"))
            smtp.send(letter("eve@home.example"))
    assert (box.recipients, box.connections) == (["ann@home.example", "eve@home.example"], 2)


def test_a_password_goes_only_to_a_server_with_a_valid_certificate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tls, certificate = self_signed(tmp_path)
    with Mailbox(password=SECRET) as plain:
        error = post(plain.url_as(f"me:{SECRET}"))
        assert (kind(error), plain.passwords) == (DOWN, [])
        assert "offers no encryption" in str(error)
        assert kind(post(plain.url, encrypted=True)) == DOWN
        assert plain.mails == []
    with Mailbox(tls=tls, password=SECRET) as box:
        assert (kind(post(box.url_as(f"me:{SECRET}"))), box.passwords) == (DOWN, [])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert (post(box.url_as(f"me:{SECRET}")), box.passwords) == (None, [SECRET])
        error = post(box.url_as("me:p%C3%A4sswort"))  # smtplib cannot send it
        assert (kind(error), box.passwords) == (DOWN, [SECRET])
        error = post(box.url_as("me:wr%2Fong"))
    assert "refused the user or password of MIDAS_SMTP_URL" in str(error)
    assert (box.passwords[1], "wr" in str(error)) == ("wr/ong", False)


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
