"""`midas doctor`: each line says what is wrong and what to do."""

from __future__ import annotations

import pytest

from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import run
from midas_pipelines_tests.sync.world import World


def states(midas: Midas, *options: str, **settings: str) -> tuple[int, dict[str, str]]:
    ended = midas("doctor", "--json", *options, **settings)
    return ended.code, {line["check"]: line["state"] for line in ended.json["lines"]}


def test_a_sound_installation_has_nothing_wrong(midas: Midas, settings: dict[str, str]) -> None:
    code, found = states(midas, **settings)
    assert code == 0
    assert {"wrong"}.isdisjoint(found.values())
    sound = (
        "settings",
        "database",
        "rights",
        "our tables",
        "triggers",
        "key and seller id",
        "TLS",
        "rate limit",
    )
    assert {found[name] for name in (*sound, "shop's tables", "clock of 4Seller", "clock of database")} == {
        "ok"
    }


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"FOURSELLER_API_KEY": "not-it"}, "key and seller id"),
        ({"FOURSELLER_API_URL": "http://127.0.0.1:9/v1"}, "4Seller"),
        ({"MIDAS_DATABASE_URL": "sqlite:///nowhere.db"}, "database"),
        ({"MIDAS_SHADOW": "everything"}, "settings"),
        ({"MIDAS_SMTP_URL": "smtp://127.0.0.1:9", "MIDAS_MAIL_FROM": "a@example.com"}, "mail"),
        ({"MIDAS_NOTIFY_URLS": "mailtoo://x"}, "alerts"),
        ({"DAGSTER_HOME": "nowhere"}, "Dagster"),
    ],
)
def test_a_wrong_setting_is_found(
    midas: Midas, settings: dict[str, str], change: dict[str, str], wrong: str
) -> None:
    code, found = states(midas, **(settings | change))
    assert (code, found[wrong]) == (1, "wrong")


@pytest.mark.parametrize(
    ("harm", "wrong"),
    [
        ("ALTER TABLE products DROP COLUMN weight", "shop's tables"),
        ("DROP TRIGGER midas_products_update", "triggers"),
        ("UPDATE midas_alembic_version SET version_num = '0000'", "our tables"),
    ],
)
def test_a_wrong_database_is_found(
    midas: Midas, world: World, settings: dict[str, str], harm: str, wrong: str
) -> None:
    named = (
        " ON products"
        if harm.startswith("DROP TRIGGER") and world.database.engine.name == "postgresql"
        else ""
    )
    run(world.database, harm + named)
    assert states(midas, **settings)[1][wrong] == "wrong"


def test_an_error_of_a_setting_offers_the_doctor(midas: Midas) -> None:
    assert "midas doctor" in midas("status").errors
