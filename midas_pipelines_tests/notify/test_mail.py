"""One mail: its headers, its address, and what each answer of a real SMTP server means."""

from __future__ import annotations

from pathlib import Path

import pytest

from midas_pipelines.mail_address import in_ascii
from midas_pipelines.notify import mail
from midas_pipelines.notify.mail import CustomerMail, MailError, SmtpConnection
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
