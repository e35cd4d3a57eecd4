"""One letter on its way: how it is addressed and written, where it may go, and how each end of it is told."""

from __future__ import annotations

import quopri
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from midas_pipelines.mail_address import in_ascii
from midas_pipelines.notify import mail
from midas_pipelines.notify.mail import (
    CustomerMail,
    MailDown,
    MailError,
    MailFailed,
    MailRefused,
    MailUnsure,
    SmtpConnection,
    SmtpServer,
    compose,
)
from midas_pipelines.settings import Settings
from midas_pipelines_tests.notify.smtp import DROP, HANG, Mailbox, self_signed

SENDER = "Midas <orders@shop.example>"
SECRET = "hunter2"


def letter(to: str = "ann@home.example", **changes: str) -> CustomerMail:
    given = {"subject": "Your order", "text": "Hello\n", "html": "<p>Hello</p>", "key": "midas-1-received-0"}
    return CustomerMail(to, **(given | changes))


def post(url: str, *letters: CustomerMail, sender: str = SENDER) -> MailError | None:
    """Sends the letters over one line; how that ended, None when all were taken."""
    try:
        with SmtpConnection(SmtpServer.from_url(url), sender) as line:
            for one in letters or (letter(),):
                line.send(one)
    except MailError as trouble:
        return trouble
    return None


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("ann@home.example", "ann@home.example"),
        ("  ann@home.example ", "ann@home.example"),
        ("Ann.O'Neil+shop@home.example", "Ann.O'Neil+shop@home.example"),
        ("ann@müller.example", "ann@xn--mller-kva.example"),
        ("ann@例え.example", "ann@xn--r8jz45g.example"),
        ("ann@[192.0.2.1]", "ann@[192.0.2.1]"),
        ("ann@home.example\u200b", "ann@home.example"),
    ],
)
def test_an_address_is_written_as_servers_take_it(given: str, taken: str) -> None:
    with Mailbox() as box:
        assert (in_ascii(given), post(box.url, letter(given))) == (taken, None)
    assert (box.recipients, box.mails[0]["To"]) == ([taken], taken)


@pytest.mark.parametrize(
    "address",
    [
        *("", "@", " @ ", "zoe", "zoe@", "@zoe.example", ",@zoe", "zoe<@x", "<zoe@home.example>"),
        *("zoe @home.example", "zoe@ho me.example", "zoe@ho\tme.example", "zoe@\x00home.example"),
        *("zoe@home.example, bob@home.example", "zoe@home.example;bob@home.example", "zoe@@home.example"),
        *(".zoe@home.example", "zoe@home..example", "Zoe <zoe@home.example>", '"zo e"@home.example'),
        *(
            "zoë@home.example",
            "用户@例子.广告",
            "zoe@" + "ä" * 70 + ".example",
            "zoe@home.example\r\nBcc: a@b.c",
        ),
    ],
)
def test_an_address_that_is_none_is_refused_before_the_server_is_asked(address: str) -> None:
    with Mailbox() as box:
        trouble = post(box.url, letter(address))
        assert (type(trouble), box.connections, box.mails) == (MailRefused, 0, [])
    assert "zo" not in str(trouble)
    assert trouble.__cause__ is None


def test_a_refusal_shows_nothing_of_the_address_either_when_the_server_quotes_it() -> None:
    with Mailbox() as box:
        box.refused["zoe@home.example"] = "550 5.1.1 <zoe@home.example>: no such zoe here"
        assert "zo" not in str(post(box.url, letter("zoe@home.example")))


@pytest.mark.parametrize("address", ["author@home.example", "x1@relay.walmart.com", "auth@home.example"])
def test_a_refused_address_is_not_the_servers_fault_because_of_what_it_is_called(address: str) -> None:
    with Mailbox() as box:
        box.refused[address] = f"550 5.1.1 <{address}>: nobody here"
        assert type(post(box.url, letter(address))) is MailRefused


def test_a_header_is_one_line_whatever_is_in_it() -> None:
    with Mailbox() as box:
        assert post(box.url, letter(subject="Order X\r\nBcc: all@home.example\n\nPay again")) is None
    assert box.mails[0]["Subject"] == "Order X Bcc: all@home.example Pay again"
    assert (box.mails[0]["Bcc"], box.recipients) == (None, ["ann@home.example"])


def test_a_letter_says_who_writes_when_and_that_no_answer_is_wanted() -> None:
    with Mailbox() as box:
        post(box.url, letter(), letter(), sender='"Müller, Söhne" <orders@shop.example>')
    first, second = box.mails
    assert first["From"].addresses[0].display_name == "Müller, Söhne"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Message-ID"] == second["Message-ID"] == "<midas-1-received-0@shop.example>"
    assert abs(parsedate_to_datetime(first["Date"]) - datetime.now(UTC).replace(tzinfo=None)) < timedelta(
        hours=1
    )
    assert box.connections == 1


def test_a_sender_of_a_domain_with_umlauts_writes_as_dns_has_it() -> None:
    sender = Settings(mail_from="Müller <orders@müller.example>").mail_from
    with Mailbox() as box:
        assert post(box.url, sender=sender) is None
    assert box.mails[0]["From"].addresses[0].display_name == "Müller"
    assert box.mails[0]["From"].addresses[0].addr_spec == "orders@xn--mller-kva.example"
    assert box.mails[0]["Message-ID"].endswith("@xn--mller-kva.example>")
    assert box.senders == ["orders@xn--mller-kva.example"]


def test_whatever_it_says_goes_over_a_line_of_seven_bits() -> None:
    text, html = "Grüße, 山田 太郎 😀 " * 90 + "\n.\n=20\n", "<p>" + "ä" * 3000 + "</p>"
    with Mailbox() as box:
        post(box.url, letter(text=text, html=html, subject="Größe " * 40))
    (raw,) = box.raw
    assert max(raw) < 128
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    plain, rich = (box.mails[0].get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None
    assert rich is not None
    assert plain["Content-Transfer-Encoding"] == rich["Content-Transfer-Encoding"] == "quoted-printable"
    assert quopri.decodestring(str(rich.get_payload())).decode().strip() == html
    assert plain.get_content().replace("\r\n", "\n") == text


def test_lines_arrive_as_they_were_written_also_those_that_begin_with_a_dot() -> None:
    text = ".\n..\n.hidden\n" + "x" * 75 + ".\n . \nends\n."
    with Mailbox() as box:
        post(box.url, letter(text=text), letter(text=text))
    assert len(box.mails) == 2  # neither was cut short, and nothing was left over for the next
    assert box.raw[0].count(b"\n") == box.raw[0].count(b"\r\n") == box.raw[0].count(b"\r")
    for arrived in box.mails:
        plain = arrived.get_body(("plain",))
        assert plain is not None
        assert plain.get_content().replace("\r\n", "\n").removesuffix("\n") == text


ANSWERS = [
    ("CONNECT", "421 4.3.2 shutting down", MailDown),
    ("CONNECT", "554 5.7.1 go away", MailDown),
    ("CONNECT", "no greeting at all", MailDown),
    ("MAIL", "421 too many", MailFailed),
    ("MAIL", "451 later", MailFailed),
    ("MAIL", "530 5.7.0 authentication required", MailDown),
    ("MAIL", "550 5.4.5 daily quota exceeded", MailDown),
    ("MAIL", "553 sender rejected", MailDown),
    ("RCPT", "450 greylisted", MailFailed),
    ("RCPT", "550 5.1.1 nobody here", MailRefused),
    ("RCPT", "550 5.7.1 not from you", MailDown),
    ("RCPT", "550 Relaying denied", MailDown),
    ("RCPT", "550 Authentication required", MailDown),
    ("RCPT", "550 You are not authorised to relay", MailDown),
    ("RCPT", "550 5.1.1 The author is gone, says [10.5.7.1] of relay.home.example", MailRefused),
    ("DATA", "451 4.3.0 later", MailDown),
    ("DATA", "554 no recipients", MailDown),
    ("LETTER", "421 shutting down", MailFailed),
    ("LETTER", "451 later", MailFailed),
    ("LETTER", "550 this is spam", MailRefused),
    ("LETTER", "552 too big", MailRefused),
    ("LETTER", "554 5.7.1 not from you", MailDown),
]


@pytest.mark.parametrize(("place", "answer", "meaning"), ANSWERS)
def test_what_the_server_says_is_sorted(place: str, answer: str, meaning: type[MailError]) -> None:
    with Mailbox() as box:
        box.at[place] = answer
        trouble = post(box.url)
    assert type(trouble) is meaning
    assert str(trouble).endswith(".")
    assert answer.partition(" ")[2] not in str(trouble)  # what a server says may quote anybody


@pytest.mark.parametrize("how", [HANG, DROP])
@pytest.mark.parametrize(
    ("place", "meaning"),
    [
        *(("CONNECT", MailDown), ("MAIL", MailDown), ("RCPT", MailDown), ("DATA", MailDown)),
        ("LETTER", MailUnsure),
    ],
)
def test_a_line_that_is_lost_is_unsure_only_once_the_letter_is_over(
    monkeypatch: pytest.MonkeyPatch, how: str, place: str, meaning: type[MailError]
) -> None:
    monkeypatch.setattr(mail, "SECONDS", 0.4)
    with Mailbox() as box:
        box.at[place] = how
        assert type(post(box.url)) is meaning
        assert len(box.mails) == (place == "LETTER")


@pytest.mark.parametrize(
    "url",
    [
        "smtp://127.0.0.1:9",
        "smtp://no..host:25",
        f"smtp://{'a' * 70}.example",
        "smtps://127.0.0.1:9",
    ],
)
def test_a_server_that_is_not_there_is_down(url: str) -> None:
    assert type(post(url)) is MailDown


def test_the_line_is_opened_anew_after_a_refusal_and_kept_otherwise() -> None:
    with Mailbox() as box:
        box.refused["bob@home.example"] = "550 nobody"
        with SmtpConnection(SmtpServer.from_url(box.url), SENDER) as line:
            for name in ("ann", "bob", "eve", "zoe"):
                with pytest.raises(MailRefused) if name == "bob" else nullcontext():
                    line.send(letter(f"{name}@home.example"))
    assert (len(box.recipients), box.connections) == (3, 2)


def test_a_certificate_that_nobody_vouches_for_is_refused_and_the_password_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tls, certificate = self_signed(tmp_path)
    with Mailbox(tls=tls, password=SECRET) as box:
        assert type(post(box.url_as(f"me:{SECRET}"))) is MailDown
        assert (box.passwords, box.mails) == ([], [])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert post(box.url_as(f"me:{SECRET}")) is None
        assert (box.passwords, len(box.mails)) == ([SECRET], 1)


def test_a_password_goes_in_the_clear_to_this_machine_alone() -> None:
    with Mailbox(password=SECRET) as box:
        elsewhere = post(
            box.url_as(f"me:{SECRET}", host="0.0.0.0")
        )  # this machine, by a name that does not say so
        assert (type(elsewhere), box.passwords, box.mails) == (MailDown, [], [])
        assert "smtps://" in str(elsewhere)
        assert post(box.url_as(f"me:{SECRET}")) is None
        assert box.passwords == [SECRET]


def test_mail_without_a_password_needs_no_encryption() -> None:
    with Mailbox() as box:
        assert post(box.url.replace("127.0.0.1", "0.0.0.0")) is None


def test_a_wrong_password_is_said_and_not_shown() -> None:
    with Mailbox(password="right") as box:
        trouble = post(box.url_as(f"me:{SECRET}"))
    assert type(trouble) is MailDown
    assert "refused the user or password of MIDAS_SMTP_URL" in str(trouble)
    assert SECRET not in str(trouble)


@pytest.mark.parametrize("without", [[], ["LOGIN"], ["PLAIN"]])
def test_a_password_may_have_any_letter(without: list[str]) -> None:
    with Mailbox(password="pässwort", without=without) as box:
        assert post(box.url_as("me:p%C3%A4sswort")) is None
        assert type(post(box.url_as("m%C3%A4:passwort"))) is MailDown
    assert box.passwords == ["pässwort", "passwort"]


def test_a_password_that_the_server_has_no_way_to_take_is_said_to_be_so() -> None:
    with Mailbox(password="pässwort", without=["PLAIN", "LOGIN"]) as box:
        trouble = post(box.url_as("me:p%C3%A4sswort"))
    assert type(trouble) is MailDown
    assert "change those of MIDAS_SMTP_URL" in str(trouble)
    assert box.passwords == []


URLS = [
    ("smtp://mail.example", ("mail.example", 587, None, None, False)),
    ("smtps://mail.example", ("mail.example", 465, None, None, True)),
    ("smtp://me:pw@mail.example:25/", ("mail.example", 25, "me", "pw", False)),
    ("smtp://me%40shop:p%2Fw%3A%23%5B@mail.example", ("mail.example", 587, "me@shop", "p/w:#[", False)),
    ("smtp://me@mail.example", ("mail.example", 587, "me", None, False)),
    ("smtp://[::1]:25", ("::1", 25, None, None, False)),
]


@pytest.mark.parametrize(("url", "parts"), URLS)
def test_a_server_is_read_from_its_address(url: str, parts: tuple[object, ...]) -> None:
    server = SmtpServer.from_url(url)
    assert (server.host, server.port, server.user, server.password, server.tls) == parts


@pytest.mark.parametrize(
    "url",
    [
        *("", SECRET, f"http://me:{SECRET}@host", f"smtp://me:{SECRET}@", "smtp://:25", "smtp://host:99999"),
        *(f"smtp://me:{SECRET}/x@host", f"smtp://me:{SECRET}#x@host", f"smtp://me:{SECRET}[x@host:25"),
        *(f"smtp://me:{SECRET}@host:port", f"smtp://me:{SECRET}℀@host", f"smtp://host/{SECRET}"),
    ],
)
def test_an_address_that_is_none_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"MIDAS_SMTP_URL must be smtp://.*%2F for a slash") as wrong:
        SmtpServer.from_url(url)
    assert SECRET not in str(wrong.value)
    assert SECRET not in str(wrong.value.__cause__ or "")


@pytest.mark.parametrize("sender", ["Midas", "a@b@c <x@y>", "Midas <orders@@shop.example>"])
def test_a_sender_that_is_none_is_refused(sender: str) -> None:
    with pytest.raises(MailRefused, match="sender's address"):
        compose(letter(), sender)


HIDDEN = "=?utf-8?b?MQ0KQmNjOiB4QGV2aWwuZXhhbXBsZQ0KDQpFdmlsIGJvZHk=?="  # 1, a Bcc, and a body


@pytest.mark.parametrize(
    "subject",
    [
        f"Order {HIDDEN} received",
        f"Order {HIDDEN}{HIDDEN}",
        "Order =?utf-8?q?1=0D=0ABcc:_x@evil.example=0D=0A=0D=0AEvil_body?=",
        "Order 1\r\nBcc: x@evil.example\r\n\r\nEvil body",
        "Order 1\nBcc: x@evil.example",
        "Order 1\rBcc: x@evil.example\x0b\x0c\x85\u2028\x00",
        "=?iso-2022-jp?b?" + "GyRC" * 40 + "?=",
        "Order \u00fc\r\n =?utf-8?b?DQpCY2M6IHg=?=\r\n",
        "=\r\n?utf-8?b?DQpCY2M6IHg=?=",
    ],
)
def test_a_subject_from_outside_makes_no_header_of_its_own(subject: str) -> None:
    with Mailbox() as box:
        assert post(box.url, letter(subject=subject)) is None
    head, _, body = box.raw[0].partition(b"\r\n\r\n")
    names = [line.split(b":")[0] for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    expected = [b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"MIME-Version"]
    assert [name for name in names if name not in (b"X-Peer", b"Content-Type")] == expected
    assert b"Evil body" not in body
    assert "\n" not in str(box.mails[0]["Subject"])


@pytest.mark.parametrize(
    "address", [f"{HIDDEN}@home.example", f"zoe@{HIDDEN}", "zoe=?utf-8?q?=0A?=@home.example"]
)
def test_an_address_with_an_encoded_word_is_none(address: str) -> None:
    with Mailbox() as box:
        assert isinstance(post(box.url, letter(address)), MailRefused)
    assert box.raw == []
