"""A wrong or missing setting is told in one sentence that names its variable and shows no secret."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from midas_pipelines.settings import Settings, SettingsError, load_settings, unknown_names
from midas_pipelines.store.orders.payload_vault import vault_of
from midas_pipelines.store.privacy.keys import new_key

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any of ours."""
    for name in list(os.environ):
        if name.startswith(("MIDAS_", "FOURSELLER_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("FOURSELLER_API_URL", "4seller.com", "must be an http(s) URL"),
        ("FOURSELLER_API_URL", "ftp://4seller.com", "must be an http(s) URL"),
        ("FOURSELLER_API_URL", "https://", "must be an http(s) URL"),
        ("FOURSELLER_API_URL", "https://[::1", "must be an http(s) URL"),
        ("FOURSELLER_API_URL", f"https://me:{SECRET}@host:port/v1", "must be an http(s) URL"),
        ("FOURSELLER_API_URL", f"http://me:{SECRET}@4seller.com/v1", "must be an http(s) URL"),
        ("MIDAS_SNAPSHOTS", f"s3://AKIA:{SECRET}/x@bucket/midas", "must be a folder"),
        ("MIDAS_BACKUP_TO", f"s3://AKIA:{SECRET}/x@bucket/midas", "must be a folder"),
        ("MIDAS_BACKUP_TO", f"gs://bucket/midas?token={SECRET}", "must be a folder"),
        ("MIDAS_DAGSTER_URL", f"https://me:{SECRET}@dagster.example", "must be the address"),
        (
            "MIDAS_SHOP_PAGE",
            f"https://me:{SECRET}@shop.example/{{sku}}",
            "must be an http(s) address without a user",
        ),
        (
            "MIDAS_CONSOLE_URL",
            f"https://me:{SECRET}@midas.example",
            "must be an http(s) address without a user",
        ),
        ("MIDAS_DATABASE_URL", SECRET, "is not a database URL"),
        (
            "MIDAS_DATABASE_URL",
            f"mysql://me:{SECRET}@host/shop",
            "must begin with sqlite:/// or postgresql://",
        ),
        ("MIDAS_DATABASE_URL", f"postgresql+psycopg2://me:{SECRET}@host/shop", "must begin with sqlite:///"),
        ("MIDAS_DATABASE_URL", f"postgresql://me:{SECRET}@host:port/shop", "is not a database URL"),
        ("MIDAS_DATABASE_URL", f"postgresql://me:{SECRET}/shop", "is not a database URL"),
        ("MIDAS_DATABASE_URL", "sqlite://", "must name a file"),
        ("MIDAS_DATABASE_URL", "sqlite:///:memory:", "must name a file"),
        ("MIDAS_PRODUCTS_INTERVAL", "0", "must be greater than or equal to 1"),
        ("MIDAS_PRODUCTS_INTERVAL", "61", "must be less than or equal to 60"),
        ("MIDAS_INVENTORY_INTERVAL", "0", "must be greater than or equal to 1"),
        ("MIDAS_ORDERS_INTERVAL", "1.5", "must be a valid integer"),
        ("MIDAS_STATUS_INTERVAL", "soon", "must be a valid integer"),
        ("MIDAS_FULL_SYNC_HOUR", "24", "must be less than or equal to 23"),
        ("MIDAS_SCHEDULES", "perhaps", "must be a valid boolean"),
        (
            "MIDAS_PAUSED",
            "retention, ordr_import",
            "must name none but incremental_sync, full_sync, inventory_push",
        ),
        ("MIDAS_IN_FLIGHT", "0", "must be greater than or equal to 1"),
        ("MIDAS_ORDERS_BATCH", "-1", "must be greater than or equal to 1"),
        ("MIDAS_LEASE_SECONDS", "5", "must be greater than or equal to 60"),
        ("MIDAS_MOST_ATTEMPTS", "0", "must be greater than or equal to 1"),
        ("MIDAS_FAILURES_IN_A_ROW", "1", "must be greater than or equal to 3"),
        ("MIDAS_TITLE_LIMIT", "0", "must be greater than or equal to 1"),
        ("MIDAS_ORDERS_OVERLAP_MINUTES", "-1", "must be greater than or equal to 0"),
        ("MIDAS_ORDERS_SINCE", "yesterday", "must be a valid datetime"),
        ("MIDAS_PAYLOAD_KEY", SECRET, "must be one or more keys"),
        (
            "MIDAS_PAYLOAD_KEY",
            f"{'A' * 43}=,{SECRET}",
            "must be one or more keys",
        ),
        ("MIDAS_PLAIN_CONNECTIONS", "databse", "must name none but database, dagster, mail"),
        ("MIDAS_SHOP_PAGE", "shop.example/{sku}", "must be an http(s) address"),
        ("MIDAS_SHOP_PAGE", "https://shop.example/{order}", "must be an http(s) address"),
        ("MIDAS_SHOP_PAGE", "https://shop.example/{sku.__class__}", "must be an http(s) address"),
        ("MIDAS_FOURSELLER_PAGE", "https://4seller.example/{sku:>9999999}", "must be an http(s) address"),
        ("MIDAS_SHOP_ORDER_PAGE", "https://shop.example/{", "must be an http(s) address"),
        ("MIDAS_FOURSELLER_ORDER_PAGE", "https://4seller.example/{sku}", "must be an http(s) address"),
        ("MIDAS_PAYLOAD_KEY", "ключ", "must be one or more keys"),
    ],
)
def test_a_wrong_value_is_one_sentence_naming_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    message = str(refused.value)
    assert message.startswith(f"{variable} {says}")
    assert message.endswith(".")
    assert "\n" not in message
    assert SECRET not in message
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_each_wrong_value_has_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDAS_ORDERS_BATCH", "many")
    monkeypatch.setenv("FOURSELLER_API_URL", "4seller.com")
    with pytest.raises(SettingsError, match=r"FOURSELLER_API_URL must .*\. MIDAS_ORDERS_BATCH must .*\."):
        load_settings()


@pytest.mark.parametrize(
    ("ask", "missing"),
    [
        (lambda settings: settings.database(), "MIDAS_DATABASE_URL is not set"),
        (lambda settings: settings.channel(), "FOURSELLER_API_KEY is not set"),
    ],
)
def test_what_is_missing_is_named_when_it_is_needed(ask: Callable[[Settings], object], missing: str) -> None:
    with pytest.raises(SettingsError, match=missing):
        ask(load_settings())


@pytest.mark.parametrize("seller", [None, ""])
def test_a_missing_seller_is_named_once_the_key_is_there(
    monkeypatch: pytest.MonkeyPatch, seller: str | None
) -> None:
    monkeypatch.setenv("FOURSELLER_API_KEY", SECRET)
    if seller is not None:
        monkeypatch.setenv("FOURSELLER_SELLER_ID", seller)
    with pytest.raises(SettingsError, match="FOURSELLER_SELLER_ID is not set"):
        load_settings().channel()


def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDAS_PRODUCTS_INTERVAL", "")
    monkeypatch.setenv("MIDAS_DATABASE_URL", "")
    assert load_settings() == load_settings()


def test_the_intervals_are_the_promised_ones_unless_set() -> None:
    settings = load_settings()
    intervals = (settings.products_interval, settings.inventory_interval, settings.orders_interval)
    assert (*intervals, settings.status_interval) == (5, 1, 2, 5)


@pytest.mark.parametrize("minutes", [1, 60])
def test_an_interval_may_be_one_to_sixty_minutes(monkeypatch: pytest.MonkeyPatch, minutes: int) -> None:
    monkeypatch.setenv("MIDAS_ORDERS_INTERVAL", str(minutes))
    assert load_settings().orders_interval == minutes


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (
            "postgresql://me@host/shop?sslmode=verify-full",
            "postgresql+psycopg://me@host/shop?sslmode=verify-full",
        ),
        ("postgres://me@localhost/shop", "postgresql+psycopg://me@localhost/shop"),
        ("postgresql+psycopg://me@[::1]:5433/shop", "postgresql+psycopg://me@[::1]:5433/shop"),
        ("postgresql:///shop?host=/run/pg", "postgresql+psycopg:///shop?host=%2Frun%2Fpg"),
        ("sqlite:///shop.db", "sqlite+pysqlite:///shop.db"),
        ("sqlite:////srv/shop.db", "sqlite+pysqlite:////srv/shop.db"),
    ],
)
def test_a_database_url_names_its_driver(monkeypatch: pytest.MonkeyPatch, given: str, used: str) -> None:
    monkeypatch.setenv("MIDAS_DATABASE_URL", given)
    assert load_settings().database().render_as_string() == used


UNVERIFIED = [
    ("MIDAS_DATABASE_URL", "postgresql://me:hunter2@db.example/shop", "database"),
    ("MIDAS_DATABASE_URL", "postgresql://me:hunter2@db.example/shop?sslmode=require", "database"),
    ("MIDAS_DATABASE_URL", "postgresql://me:hunter2@127.0.0.1,db.example:5433/shop", "database"),
    ("MIDAS_DATABASE_URL", "postgresql:///shop?host=db.example", "database"),
    ("MIDAS_DATABASE_URL", "postgresql://localhost/shop?hostaddr=192.0.2.1", "database"),
    ("MIDAS_DATABASE_URL", "postgresql://db.example/shop?sslmode=verify-full&sslmode=disable", "database"),
    ("MIDAS_DATABASE_URL", "postgresql://localhost.evil.example/shop", "database"),
    ("MIDAS_DAGSTER_POSTGRES_URL", "postgresql://me:hunter2@[2001:db8::1]:5432/dagster", "dagster"),
]


@pytest.mark.parametrize(("variable", "url", "word"), UNVERIFIED)
def test_another_host_is_reached_by_verified_tls_or_by_a_word(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str, word: str
) -> None:
    monkeypatch.setenv(variable, url)
    monkeypatch.setenv("MIDAS_PLAIN_CONNECTIONS", "mail")
    with pytest.raises(SettingsError, match=rf"{variable} must end with \?sslmode=verify-full") as refused:
        load_settings()
    assert SECRET not in str(refused.value)
    monkeypatch.setenv("MIDAS_PLAIN_CONNECTIONS", f"mail, {word}")
    load_settings()


@pytest.mark.parametrize(
    ("url", "words", "encrypted"),
    [
        ("smtp://mail.example:25", "", True),
        ("smtp://mail.example:25", "mail", False),
        ("smtp://127.0.0.2:25", "", False),
    ],
)
def test_mail_to_another_host_is_encrypted_unless_a_word_allows_it(
    monkeypatch: pytest.MonkeyPatch, url: str, words: str, encrypted: bool
) -> None:
    monkeypatch.setenv("MIDAS_SMTP_URL", url)
    monkeypatch.setenv("MIDAS_PLAIN_CONNECTIONS", words)
    assert load_settings().mail_encrypted is encrypted


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8090/v1/", "http://localhost:8090/v1", "https://4s.example.com"]
)
def test_plain_http_is_for_this_machine_alone(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FOURSELLER_API_URL", url)
    assert load_settings().fourseller_api_url == url.rstrip("/")


@pytest.mark.parametrize(("zone", "hour"), [("UTC", 0), ("America/Los_Angeles", 8)])
def test_a_moment_without_a_zone_is_one_of_the_shop(
    monkeypatch: pytest.MonkeyPatch, zone: str, hour: int
) -> None:
    monkeypatch.setenv("MIDAS_ORDERS_SINCE", "2026-01-02")
    monkeypatch.setenv("MIDAS_TIMEZONE", zone)
    assert load_settings().orders_since == datetime(2026, 1, 2, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "begins", "hours"),
    [
        ("UTC", "2026-03-08", "2026-03-08T00:00+00:00", 24),
        ("Asia/Tokyo", "2026-11-27", "2026-11-26T15:00+00:00", 24),
        ("America/Los_Angeles", "2026-03-08", "2026-03-08T08:00+00:00", 23),
        ("America/Los_Angeles", "2026-11-01", "2026-11-01T07:00+00:00", 25),
        ("America/Santiago", "2026-09-06", "2026-09-06T04:00+00:00", 23),  # there is no midnight that night
        ("Asia/Kathmandu", "2026-11-27", "2026-11-26T18:15+00:00", 24),
    ],
)
def test_a_day_begins_and_ends_at_the_shops_midnight(zone: str, day: str, begins: str, hours: int) -> None:
    settings, (this, start) = load_settings(timezone=zone), (date.fromisoformat(day), begins)
    first, step = datetime.fromisoformat(start), timedelta(microseconds=1)
    assert settings.midnight(this) == first
    assert settings.midnight(this + timedelta(days=1)) == first + timedelta(hours=hours)
    end = first + timedelta(hours=hours)
    assert [settings.day_of(one) for one in (first - step, first, end - step, end)] == [
        this - timedelta(days=1),
        this,
        this,
        this + timedelta(days=1),
    ]


def test_it_is_never_the_same_day_at_both_ends_of_the_earth() -> None:
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        assert load_settings(timezone=zone).today() == datetime.now(ZoneInfo(zone)).date()


def test_a_channel_takes_its_address_from_the_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in [
        ("FOURSELLER_API_KEY", SECRET),
        ("FOURSELLER_SELLER_ID", "s-1"),
        ("URL", "x"),
        ("API_KEY", "y"),
    ]:
        monkeypatch.setenv(name, value)
    access = load_settings().channel()
    assert (access.url, access.api_key, access.seller_id) == (
        "https://api.4seller.com/v1",
        SecretStr(SECRET),
        "s-1",
    )


def test_no_secret_shows_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    monkeypatch.setenv("FOURSELLER_API_KEY", SECRET)
    monkeypatch.setenv("FOURSELLER_SELLER_ID", "s-1")
    monkeypatch.setenv("MIDAS_DATABASE_URL", f"postgresql://me:{SECRET}@host/shop?sslmode=verify-full")
    monkeypatch.setenv("MIDAS_PAYLOAD_KEY", key)
    settings = load_settings()
    shown = (
        f"{settings!r} {settings} {settings.channel()!r} {settings.database()} {settings.model_dump_json()}"
    )
    assert SECRET not in shown
    assert key not in shown


def test_several_payload_keys_are_accepted_as_the_vault_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ", ".join(new_key() for _ in range(2))
    monkeypatch.setenv("MIDAS_PAYLOAD_KEY", keys)
    vault = vault_of(load_settings())
    assert vault.open(vault.seal({"id": 1})) == {"id": 1}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MIDAS_SCHEDULE", "MIDAS_SCHEDULES"),
        ("MIDAS_DATABSE_URL", "MIDAS_DATABASE_URL"),
        ("midas_order_interval", "MIDAS_ORDERS_INTERVAL"),
        ("FOURSELLER_APIKEY", "FOURSELLER_API_KEY"),
        ("FOURSELLER_SELLER", "FOURSELLER_SELLER_ID"),
        ("MIDAS_GATEWY_PORT", "MIDAS_GATEWAY_PORT"),
        ("MIDAS_FOURSELLER_API_KEY", "FOURSELLER_API_KEY"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == f"{name} is not a setting: did you mean {nearest}?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MIDAS_HOST", "midas.example.com"),
        ("MIDAS_VERSION", "1"),
        ("MIDAS_TEST_POSTGRES_URL", "postgresql://localhost"),
        ("MIDAS_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("MIDAS_DAGSTER_WEBSERVER_SERVICE_PORT_HTTP", "80"),
        ("MIDAS_DAGSTER_WEBSERVER_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("MIDAS_PIPELINES_PORT", "tcp://10.0.0.1:4000"),
        ("MIDAS_NOTHING", ""),
        ("midas_schedules", "true"),
        ("MIDASTOUCH", "gold"),
    ],
)
def test_a_name_that_others_read_is_let_be(name: str, value: str) -> None:
    assert unknown_names({name: value}) == []
