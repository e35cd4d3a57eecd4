"""`midas doctor`: each line says what is wrong and what to do."""

from __future__ import annotations

import pytest

from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import add_image, add_product, run
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


SMTP = {"MIDAS_SMTP_URL": "smtp://127.0.0.1:9", "MIDAS_MAIL_FROM": "a@example.com"}
SEVERAL = {"FOURSELLER_API_KEY": "not-it", "MIDAS_NOTIFY_URLS": "mailtoo://x", "DAGSTER_HOME": "nowhere"}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (SEVERAL | SMTP, {"key and seller id", "mail", "alerts", "Dagster"}),
        ({"FOURSELLER_API_URL": "http://127.0.0.1:9/v1"}, {"4Seller"}),
        ({"MIDAS_DATABASE_URL": "sqlite:///nowhere.db"}, {"database"}),
        ({"MIDAS_SHADOW": "everything"}, {"settings"}),
    ],
)
def test_wrong_settings_are_found(
    midas: Midas, settings: dict[str, str], change: dict[str, str], wrong: set[str]
) -> None:
    code, found = states(midas, **(settings | change))
    assert (code, {check for check, state in found.items() if state == "wrong"}) == (1, wrong)


def test_a_wrong_database_is_found(midas: Midas, world: World, settings: dict[str, str]) -> None:
    on = " ON products" if world.database.is_postgresql else ""
    for harm, wrong in (
        ("ALTER TABLE products DROP COLUMN weight", "shop's tables"),
        (f"DROP TRIGGER midas_products_update{on}", "triggers"),
        ("UPDATE midas_alembic_version SET version_num = '0000'", "our tables"),
    ):
        run(world.database, harm)
        assert states(midas, **settings)[1][wrong] == "wrong"


def test_a_large_table_without_an_index_is_found(
    midas: Midas, world: World, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midas_pipelines.lib.doctor.report.MOST_UNINDEXED", 1)
    product = add_product(world.database)
    for number in range(2):
        add_image(world.database, product, f"https://shop.example.com/{number}.jpg")
    (found,) = [
        one for one in midas("doctor", "--json", **settings).json["lines"] if one["check"] == "indexes"
    ]
    assert (found["state"], found["found"].partition(":")[0]) == ("warning", "product_images")
    command = found["next_step"].partition(": ")[2].replace(" CONCURRENTLY", "")
    run(world.database, command)
    assert states(midas, **settings)[1]["indexes"] == "ok"


def test_an_error_of_a_setting_offers_the_doctor(midas: Midas) -> None:
    assert "midas doctor" in midas("status").errors
