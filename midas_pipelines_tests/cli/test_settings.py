"""Wrong settings and a database that is not ready: one sentence, the right exit code, no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from midas_pipelines.cli import COMMANDS, cli
from midas_pipelines.store.database import Database
from midas_pipelines_tests.cli.conftest import Midas

WRONG = {
    "no database": ({}, "MIDAS_DATABASE_URL is not set"),
    "other database": ({"MIDAS_DATABASE_URL": "mysql://me:s3cret@host/shop"}, "must begin with sqlite:///"),
    "no server": ({"MIDAS_DATABASE_URL": "postgresql://me:s3cret@127.0.0.1:1/shop"}, "cannot be opened"),
    "no folder": ({"MIDAS_DATABASE_URL": "sqlite:////no/such/folder/shop.db"}, "cannot be opened"),
    "interval": ({"MIDAS_ORDERS_INTERVAL": "61"}, "MIDAS_ORDERS_INTERVAL must be less than or equal to 60"),
    "plain http": (
        {"FOURSELLER_API_URL": "http://api.example.com/v1"},
        "FOURSELLER_API_URL must begin with https",
    ),
    "misspelt name": (
        {"MIDAS_SCHEDULE": "true"},
        "MIDAS_SCHEDULE is not a setting: did you mean MIDAS_SCHEDULES?",
    ),
    "no url": ({"FOURSELLER_API_URL": "api.example.com"}, "FOURSELLER_API_URL must be an http(s) URL"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_is_one_sentence_and_code_2(midas: Midas, case: str) -> None:
    environment, sentence = WRONG[case]
    ended = midas("status", **environment)
    assert ended.code == 2
    assert sentence in ended.errors
    assert "s3cret" not in ended.errors
    assert len(ended.errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "urls", "sentence"),
    [
        (
            ("settings",),
            "slack://s3cret",
            "has a slack:// address that is not understood: check its spelling.",
        ),
        (("alerts", "list"), "s3cret", "has a unknown:// address that is not understood"),
        (
            ("gateway", "--port", "0"),
            "json://127.0.0.1 slak://s3cret/s3cret/s3cret",
            "did you mean slack://?",
        ),
        (("worker",), "slack://s3cret", "check its spelling"),
    ],
)
def test_an_address_that_is_not_understood_is_refused_where_it_is_used(
    midas: Midas, settings: dict[str, str], command: tuple[str, ...], urls: str, sentence: str
) -> None:
    ended = midas(*command, **(settings | {"MIDAS_NOTIFY_URLS": urls}))
    assert (ended.code, sentence in ended.errors, "s3cret" in ended.errors) == (2, True, False)


@pytest.mark.parametrize("missing", ["FOURSELLER_API_KEY", "FOURSELLER_SELLER_ID"])
def test_a_sync_without_access_to_4seller_names_what_is_missing(
    midas: Midas, settings: dict[str, str], missing: str
) -> None:
    ended = midas("sync", "orders", **(settings | {missing: ""}))
    assert (ended.code, f"{missing} is not set" in ended.errors) == (2, True)


def test_a_sync_on_an_unprepared_shop_says_what_to_run(
    midas: Midas, bare_shop: Database, settings: dict[str, str]
) -> None:
    url = bare_shop.engine.url.render_as_string(hide_password=False)
    ended = midas("sync", "orders", **(settings | {"MIDAS_DATABASE_URL": url}))
    assert ended.code == 1
    assert ended.errors == "Error: The database is not prepared for this version: run `midas db upgrade`.\n"


def test_an_unknown_command_is_wrong_usage(midas: Midas) -> None:
    assert midas("sync", "everything").code == 2


def test_help_lists_each_command_with_what_it_does(midas: Midas) -> None:
    told = midas("--help").output
    for command in ("db", "demo", "dev", "sandbox", "status", "store", "sync"):
        assert f"\n  {command} " in told


def test_the_page_of_the_settings_is_what_the_code_says(midas: Midas) -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert midas("settings", "--markdown").output == page.read_text(), (
        "run `midas settings --markdown > docs/settings.md`"
    )


def test_secrets_are_not_shown(midas: Midas) -> None:
    told = midas(
        "settings",
        MIDAS_DATABASE_URL="postgresql://me:s3cret@host/shop?sslmode=verify-full",
        FOURSELLER_API_KEY="k3y-secret",
    )
    assert told.code == 0
    assert "s3cret" not in told.output
    assert "k3y-secret" not in told.output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_of_the_list_is_there(name: str) -> None:
    found = CliRunner().invoke(cli, [name, "--help"])
    assert found.exit_code == 0, found.output
    assert found.output.startswith(f"Usage: cli {name}")
