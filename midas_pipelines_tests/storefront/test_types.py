"""Money and moments mean the same on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.storefront.schema import orders, products
from midas_pipelines.storefront.types import to_cents, utc_now
from midas_pipelines_tests.shop import add_order, add_product


@pytest.mark.parametrize("text", ["0.00", "0.01", "0.10", "19.99", "1234567.89", "99999999.99", "-0.05"])
def test_money_comes_back_to_the_cent(shop: Database, text: str) -> None:
    product = add_product(shop, price=Decimal(text))
    with shop.reading() as connection:
        price = connection.scalar(sa.select(products.c.price).where(products.c.id == product))
    assert str(price) == text


@pytest.mark.parametrize(
    ("amount", "cents"), [("0.005", "0.01"), ("2.675", "2.68"), ("1.004", "1.00"), ("-0.005", "-0.01")]
)
def test_cents_are_rounded_half_up(amount: str, cents: str) -> None:
    assert str(to_cents(Decimal(amount))) == cents


@pytest.mark.parametrize(
    "zone", [UTC, timezone(timedelta(hours=-8)), timezone(timedelta(hours=5, minutes=30))]
)
def test_a_moment_comes_back_in_utc_to_the_microsecond(shop: Database, zone: timezone) -> None:
    moment = datetime(2026, 3, 8, 2, 30, 0, 123456, tzinfo=zone)
    order = add_order(shop, created_at=moment)
    with shop.reading() as connection:
        read = connection.scalar(sa.select(orders.c.created_at).where(orders.c.id == order))
    assert read == moment
    assert read is not None
    assert read.tzinfo is UTC


def test_a_moment_without_a_zone_is_refused(shop: Database) -> None:
    with pytest.raises(sa.exc.StatementError, match="no time zone"):
        add_order(shop, created_at=datetime(2026, 3, 8))  # noqa: DTZ001 - the point of the test


def test_the_databases_clock_can_be_moved_also_in_statements_that_differ_by_nothing_else(
    database: Database,
) -> None:
    for offset in (-3600, 0, 90, -3600):
        with database.reading() as connection:
            now, moved = connection.execute(sa.select(utc_now(), utc_now(offset))).one()
        assert moved - now == pytest.approx(timedelta(seconds=offset), abs=timedelta(seconds=0.5))
        assert abs(datetime.now(UTC) - now) < timedelta(seconds=5)


def test_a_statement_with_the_databases_clock_is_compiled_once_for_each_offset(database: Database) -> None:
    compiled: dict[object, object] = {}
    with database.reading() as connection:
        kept = connection.execution_options(compiled_cache=compiled)
        moments = [kept.scalar(sa.select(utc_now(offset))) for offset in (0, 0, 3600, 3600)]
    assert len(compiled) == 2
    assert moments[3] - moments[1] > timedelta(seconds=3500)


def test_a_default_moment_is_read_back_as_now(shop: Database) -> None:
    order = add_order(shop)
    with shop.reading() as connection:
        made = connection.scalar(sa.select(orders.c.created_at).where(orders.c.id == order))
    assert made is not None
    assert abs(datetime.now(UTC) - made) < timedelta(seconds=5)
