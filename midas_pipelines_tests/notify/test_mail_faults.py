"""What is known to be wrong with writing and sending one letter, and with the settings of it; a case leaves this file when it is mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from midas_pipelines.notify import mail
from midas_pipelines.notify.letters import BadTemplate
from midas_pipelines.notify.mail import MailFailed, MailRefused
from midas_pipelines.settings import Settings
from midas_pipelines_tests.notify.smtp import DROP, HANG, Mailbox
from midas_pipelines_tests.notify.test_letters import EMAIL, in_folder, write
from midas_pipelines_tests.notify.test_mail import letter, post


@pytest.mark.xfail(
    strict=True, reason="`auth` and `relay` are also found in the address that the server quotes"
)
@pytest.mark.parametrize("address", ["author@home.example", "x1@relay.walmart.com"])
def test_a_refused_address_is_not_the_servers_fault_because_of_what_it_is_called(address: str) -> None:
    with Mailbox() as box:
        box.refused[address] = f"550 5.1.1 <{address}>: nobody here"
        assert type(post(box.url, letter(address))) is MailRefused


@pytest.mark.xfail(strict=True, reason="a line lost before the letter was handed over counts as unsure")
@pytest.mark.parametrize("how", [HANG, DROP])
def test_a_line_that_is_lost_before_the_letter_has_surely_taken_nothing(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(mail, "SECONDS", 0.4)
    with Mailbox() as box:
        box.at["DATA"] = how
        assert isinstance(post(box.url), MailFailed)


@pytest.mark.xfail(strict=True, reason="smtplib encodes user and password as ASCII")
def test_a_password_may_have_any_letter() -> None:
    with Mailbox(password="pässwort") as box:
        assert post(box.url_as("me:p%C3%A4sswort")) is None


@pytest.mark.xfail(
    strict=True, reason="only the customer's domain is written as DNS has it, not the sender's"
)
def test_a_sender_of_a_domain_with_umlauts_can_write() -> None:
    sender = Settings(mail_from="Müller <orders@müller.example>").mail_from
    with Mailbox() as box:
        assert post(box.url, sender=sender) is None
    assert "xn--mller-kva.example" in str(box.mails[0]["From"])


@pytest.mark.xfail(
    strict=True, reason="what Jinja says of a fact or a file that is not there quotes its name"
)
@pytest.mark.parametrize(
    "content", ["{{ customer[customer.email] }}\nHi", "{% include customer.email %}\nHi"]
)
def test_a_wrong_template_shows_no_buyer_however_it_is_wrong(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadTemplate) as wrong:
        write(folder=in_folder(tmp_path, received_txt=content))
    assert EMAIL not in str(wrong.value)


@pytest.mark.xfail(strict=True, reason="a letter without subject or text is sent as it is")
@pytest.mark.parametrize("content", ["", "\n\n", "Only a subject {{ order.number }}"])
def test_a_template_of_a_file_half_saved_is_no_letter(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadTemplate):
        write(folder=in_folder(tmp_path, received_txt=content))


@pytest.mark.xfail(
    strict=True, reason="of a failure while it is filled in, neither the file nor the line is told"
)
def test_a_template_that_fails_names_its_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(BadTemplate, match=r"received\.txt, line 2"):
        write(folder=in_folder(tmp_path, received_txt="Thanks\n{{ order.nothing }}"))


@pytest.mark.xfail(
    strict=True, reason="the setting is taken, and then every message to a customer fails for good"
)
@pytest.mark.parametrize(
    "sender", ["müller@shop.example", "Midas <orders@shop..example>", ".orders@shop.example"]
)
def test_a_sender_that_no_letter_can_have_is_refused_at_once(sender: str) -> None:
    with pytest.raises(ValueError, match="must be a sender"):
        Settings(mail_from=sender)


@pytest.mark.xfail(
    strict=True, reason="quotes that are no JSON stay a part of the name, which then matches nothing"
)
@pytest.mark.parametrize("written", ['"ebay"', "'ebay', 'amazon'", "['ebay']"])
def test_quotes_around_a_channel_are_no_part_of_its_name(written: str) -> None:
    assert "ebay" in Settings.model_validate({"mail_channels_on": written}).mail_channels_on
