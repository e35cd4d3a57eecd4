"""Settings of mail to customers: what each takes, and a wrong one told in a sentence without the password."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from midas_pipelines.notify.mail import CustomerMail, compose
from midas_pipelines.settings import SettingsError, load_settings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any of ours."""
    for name in list(os.environ):
        if name.startswith(("MIDAS_", "FOURSELLER_")):
            monkeypatch.delenv(name)


def refusal(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as wrong:
        load_settings()
    assert wrong.value.__suppress_context__
    return str(wrong.value)


@pytest.mark.parametrize(
    "url",
    [
        *(f"smtp://me:{SECRET}{odd}x@mail.example:587" for odd in ("/", "#", "?", "[", "]", "℀")),
        *(f"smtp://me:{SECRET}@mail.example:99999", f"smtp://me:{SECRET}@mail.example:0"),
        *(f"smtp://me:{SECRET}@", f"http://me:{SECRET}@mail.example", f"me:{SECRET}@mail.example", SECRET),
        *(
            f"smtp://mail.example/{SECRET}",
            f"smtp://mail.example?password={SECRET}",
            f"smtp://[{SECRET}",
            "smtp://:25",
        ),
    ],
)
def test_a_wrong_server_is_refused_without_a_word_of_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    sentence = refusal(monkeypatch, "MIDAS_SMTP_URL", url)
    assert sentence.startswith("MIDAS_SMTP_URL must be smtp://user:password@host:587")
    assert "%2F" in sentence
    assert SECRET not in sentence


def test_a_server_is_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDAS_SMTP_URL", f"smtp://me:{SECRET}@mail.example")
    settings = load_settings()
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    "sender",
    [
        "orders@shop.example",
        "Midas Technical <orders@shop.example>",
        '"Midas, Inc." <orders@shop.example>',
        '"Midas @ home" <orders@shop.example>',
        "Müller & Söhne <orders@shop.example>",
    ],
)
def test_a_sender_can_write(monkeypatch: pytest.MonkeyPatch, sender: str) -> None:
    monkeypatch.setenv("MIDAS_MAIL_FROM", sender)
    _, message = compose(CustomerMail("ann@home.example", "Hi", "Hi", "Hi", "1"), load_settings().mail_from)
    assert b"<orders@shop.example>" in message or b"From: orders@shop.example" in message


@pytest.mark.parametrize(
    "sender",
    [
        *("nobody", "@", "foo@", "@shop.example", "Midas orders@shop.example"),
        *(
            "Midas Shop, Inc. <orders@shop.example>",
            "a@shop.example, b@shop.example",
            "Midas @ home <a@shop.example>",
        ),
        *("Midas <orders@@shop.example>", "orders shop.example", "müller@shop.example"),
        *("Midas <orders@shop..example>", ".orders@shop.example", "orders@müller..example"),
    ],
)
def test_a_sender_that_cannot_write_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, sender: str) -> None:
    sentence = refusal(monkeypatch, "MIDAS_MAIL_FROM", sender)
    assert sentence.startswith(
        "MIDAS_MAIL_FROM must be a sender such as Midas Technical <orders@example.com>"
    )


LISTS = {
    "ebay": ["ebay"],
    " eBay ,\tamazon , ": ["eBay", "amazon"],
    "": [],
    "TikTok Shop": ["TikTok Shop"],
}


@pytest.mark.parametrize("written", LISTS)
def test_channels_are_listed_as_people_write_lists(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    for name in ("MIDAS_MAIL_CHANNELS_ON", "MIDAS_MAIL_CHANNELS_OFF"):
        monkeypatch.setenv(name, written)
    settings = load_settings()
    assert settings.mail_channels_on == settings.mail_channels_off == LISTS[written]


@pytest.mark.parametrize(
    "written",
    ['["ebay", "amazon"]', "[ebay, amazon]", "'ebay', \"TikTok Shop\"", 'amazon,"ebay"', "amazon, ebay]"],
)
def test_a_list_in_quotes_or_brackets_is_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    sentence = refusal(monkeypatch, "MIDAS_MAIL_CHANNELS_OFF", written)
    assert "names with commas between" in sentence


@pytest.mark.parametrize("hours", ["0", "8761", "soon"])
def test_the_age_of_a_confirmation_is_hours_in_a_year(monkeypatch: pytest.MonkeyPatch, hours: str) -> None:
    assert refusal(monkeypatch, "MIDAS_MAIL_NEWEST_HOURS", hours).startswith(
        "MIDAS_MAIL_NEWEST_HOURS must be"
    )


def test_a_folder_of_templates_may_be_made_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIDAS_MAIL_TEMPLATES", str(tmp_path / "later"))
    assert load_settings().mail_templates == tmp_path / "later"
