"""Rows that are written many at once are read back as they were given, whatever their texts hold."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.storefront.bulk import BETWEEN, NOTHING
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.writing import by_column, insert_columns, insert_new, update_rows

TEXTS = ["", " ", "a,b", "{NULL}", 'x"\\', "\x1e", "\x1d", "line\nline", "Ærø 部品", None]


def order(number: int, notes: str | None, payment_method: Any = None) -> dict[str, Any]:
    """A row of `orders`."""
    place = {"city": notes or "", "deep": [None, 1, {"a": "\x1e"}]}
    texts = {"order_number": f"N-{number}", "status": "pending", "notes": notes, "total_amount": "12.30"}
    addresses = {"shipping_address": place, "billing_address": place}
    return {"id": number, **texts, **addresses, "payment_method": payment_method}


def read(shop: Database) -> list[Any]:
    """Id, notes, city and total, by id."""
    with shop.reading() as connection:
        rows = connection.execute(sa.select(orders).order_by(orders.c.id)).all()
    return [(row.id, row.notes, row.shipping_address, str(row.total_amount)) for row in rows]


@pytest.mark.parametrize("count", [1, len(TEXTS)])
def test_texts_of_all_kinds_are_kept(shop: Database, count: int) -> None:
    rows = [order(number, notes) for number, notes in enumerate(TEXTS[:count], start=1)]
    with shop.writing() as connection:
        insert_columns(connection, orders, by_column(rows))
    assert read(shop) == [(row["id"], row["notes"], row["shipping_address"], "12.30") for row in rows]
    changed = [
        {"id": row["id"], "notes": f"{row['notes']}!" if row["notes"] else row["notes"]} for row in rows
    ]
    with shop.writing() as connection:
        update_rows(connection, orders, changed)
    assert [row[1] for row in read(shop)] == [row["notes"] for row in changed]


def test_only_new_rows_are_inserted(shop: Database) -> None:
    with shop.writing() as connection:
        assert insert_new(connection, orders, [order(1, ""), order(2, None)], "id") == {1, 2}
        assert insert_new(connection, orders, [order(2, "x"), order(3, "")], "id") == {3}


@pytest.mark.only_on("postgresql")  # SQLite holds texts of any length
def test_a_text_that_is_too_long_is_refused_and_never_cut(shop: Database) -> None:
    with pytest.raises(sa.exc.DataError), shop.writing() as connection:
        insert_columns(
            connection, orders, by_column([order(1, None) | {"order_number": "N" * 51}, order(2, None)])
        )


def test_no_text_from_outside_can_hold_what_separates_the_values() -> None:
    assert len({BETWEEN, NOTHING}) == 2
    assert min(len(BETWEEN), len(NOTHING)) == 9
