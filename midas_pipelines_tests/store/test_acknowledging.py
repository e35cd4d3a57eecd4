"""One outcome that cannot be stored is quarantined with its reason; the others are acknowledged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.fourseller.http.rate_limit import FailedCall
from midas_pipelines.store.database import Database
from midas_pipelines.store.items import claims
from midas_pipelines.store.items.acknowledge import PushOutcome, PushResult, acknowledge
from midas_pipelines.store.items.conflicts import record_conflicts
from midas_pipelines.store.operations.cursors import ErrorBook
from midas_pipelines.store.schema.tables import sync_logs
from midas_pipelines.storefront.writing import write_each
from midas_pipelines_tests.shop import add_product, rows, run, value

ITEMS = 12
STATES = "SELECT state, reason, dirty_since, claimed_by FROM fourseller_product_mappings ORDER BY id"


@pytest.fixture
def outcomes(shop: Database) -> list[PushOutcome]:
    """Good outcomes of claimed items."""
    for _ in range(ITEMS):
        add_product(shop)
    with shop.writing() as connection:
        claimed = claims.claim(connection, worker="one", lease_seconds=60, limit=ITEMS)
    return [
        PushOutcome(
            one,
            PushResult.LISTED,
            fourseller_product_id=f"fs-{one.id}",
            content_hash="h",
            price=Decimal(5),
            quantity=1,
        )
        for one in claimed
    ]


@pytest.mark.parametrize(
    ("odd", "both"),  # SQLite keeps no lengths
    [
        ({"fourseller_product_id": "x" * 150}, True),
        ({"fourseller_product_id": "x\0y"}, True),
        ({"fourseller_product_id": "x\ud83d"}, True),
        ({"fourseller_product_id": "fs-2"}, True),
        ({"price": Decimal(10) ** 8}, False),
        ({"quantity": 2**70}, True),
        ({"content_hash": "h" * 65}, False),
    ],
)
def test_one_outcome_that_cannot_be_stored_is_quarantined_and_the_others_are_written(
    shop: Database, outcomes: list[PushOutcome], odd: dict[str, Any], both: bool
) -> None:
    outcomes[7] = dataclasses.replace(outcomes[7], **odd)
    with shop.writing() as connection:
        assert acknowledge(connection, outcomes, most_attempts=3)[1] == []
    found = rows(shop, STATES)
    assert [row.claimed_by for row in found] == [None] * ITEMS
    bad = found.pop(7)
    assert {(row.state, row.dirty_since) for row in found} == {("listed", None)}
    if both or shop.is_postgresql:
        assert (bad.state, bad.dirty_since) == ("quarantined", None)
        assert "4Seller" in bad.reason


def test_the_reason_names_the_item_that_has_the_product_already(
    shop: Database, outcomes: list[PushOutcome]
) -> None:
    outcomes[0] = dataclasses.replace(outcomes[0], fourseller_product_id="fs-2")
    with shop.writing() as connection:
        acknowledge(connection, [outcomes[1], outcomes[0]], most_attempts=3)
    assert rows(shop, STATES)[0].reason.startswith("4Seller answered with the product fs-2, which is that of")


@pytest.mark.parametrize("words", ["bad \0 words", "half \ud83d of one"])
def test_words_from_outside_are_made_writable_wherever_they_are_kept(
    shop: Database, outcomes: list[PushOutcome], words: str
) -> None:
    refused = PushOutcome(outcomes[0].mapping, PushResult.QUARANTINED, reason=words, refused=True)
    call = SimpleNamespace(
        endpoint="e" * 300,
        status=422,
        code="c" * 300,
        message=words,
        attempt=1,
        item=words * 100,
        at=datetime.now(UTC),
    )
    with ErrorBook(shop, None) as book:
        book.note(call)
    log = {"kind": "products", "scope": words, "counts": {"problems": [words]}, "reason": words}
    with shop.writing() as connection:
        connection.execute(sa.insert(sync_logs).values(log))
    conflict = {
        "subject": "product:1",
        "field": "content",
        "policy": "manual",
        "sku": words,
        "fourseller_value": words,
        "shop_value": words,
    }
    with shop.writing() as connection:
        acknowledge(connection, [refused], most_attempts=3)
        record_conflicts(connection, [conflict, conflict | {"subject": "x" * 151}])
    kept = [
        value(shop, "SELECT reason FROM fourseller_product_mappings WHERE id = 1"),
        value(shop, "SELECT message FROM fourseller_api_errors"),
        value(shop, "SELECT reason FROM fourseller_sync_logs"),
        value(shop, "SELECT shop_value FROM sync_conflicts WHERE subject = 'product:1'"),
    ]
    assert kept == [words.replace("\0", "\ufffd").replace("\ud83d", "\ufffd")] * 4


def test_failed_calls_wait_while_the_database_is_away(shop: Database) -> None:
    class Away(Database):
        away = True

        @contextmanager
        def writing(self) -> Iterator[sa.Connection]:
            if self.away:
                raise sa.exc.OperationalError("", {}, Exception("the connection is cut"))
            with super().writing() as connection:
                yield connection

    with Away(shop.engine.url) as database:
        book = ErrorBook(database, None, block=2)
        for attempt in range(5):
            book.note(FailedCall("GET /orders", 503, None, attempt, "It failed.", None, datetime.now(UTC)))
        with pytest.raises(sa.exc.OperationalError):
            book.flush()
        database.away = False
        book.flush()
        book.flush()
    assert rows(shop, "SELECT attempt FROM fourseller_api_errors ORDER BY id") == [(n,) for n in range(5)]


def test_each_row_is_written_but_the_bad_ones(shop: Database) -> None:
    statement = sa.text("INSERT INTO midas_cursors (name, value) VALUES (:name, 'x')")
    bad: list[Any] = []
    names = [{"name": str(number % 7)} for number in range(10)] + [{"name": None}]
    with shop.writing() as connection:
        write_each(
            connection,
            names,
            lambda part: connection.execute(statement, list(part)),
            lambda row, _: bad.append(row),
        )
    assert value(shop, "SELECT count(*) FROM midas_cursors WHERE value = 'x'") == 7
    assert bad == [{"name": "0"}, {"name": "1"}, {"name": "2"}, {"name": None}]


def test_what_is_no_rows_fault_is_raised(shop: Database) -> None:
    def away(_: object) -> None:
        raise sa.exc.OperationalError("", {}, Exception("gone"))

    with shop.writing() as connection, pytest.raises(sa.exc.OperationalError):
        write_each(connection, [1, 2], away)


@pytest.mark.parametrize("state", ["54000", "55000", "40P01", "53100", "57014", "42501"])
def test_a_row_that_fails_for_any_reason_is_left_out_alone_where_others_can_be_written(
    shop: Database, state: str
) -> None:
    def write(part: Sequence[int]) -> None:
        if 2 in part:
            error = Exception("index row size 3000 exceeds btree maximum")
            error.sqlstate = state  # type: ignore[attr-defined]
            raise sa.exc.OperationalError("", {}, error)
        written.extend(part)

    written: list[int] = []
    bad: list[Any] = []
    with shop.writing() as connection:
        write_each(connection, [1, 2, 3], write, lambda row, _: bad.append(row))
    assert (written, bad) == ([1, 3], [2])


def test_an_item_whose_row_cannot_be_changed_at_all_holds_up_no_other(
    shop: Database, outcomes: list[PushOutcome]
) -> None:
    refusal = "SELECT RAISE(ABORT, 'no')"
    if shop.is_postgresql:
        body = "BEGIN RAISE 'no'; END"
        run(shop, f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
        refusal = "EXECUTE FUNCTION refuse()"
    begin, end = ("FOR EACH ROW", "") if shop.is_postgresql else ("", "; END")
    act = refusal if shop.is_postgresql else f"BEGIN {refusal}"
    run(
        shop,
        f"CREATE TRIGGER refuse BEFORE UPDATE ON fourseller_product_mappings {begin} "
        f"WHEN (NEW.id = 8) {act}{end}",
    )
    with shop.writing() as connection:
        assert acknowledge(connection, outcomes, most_attempts=3)[1] == []
        assert claims.release_claims(connection, "one") == 1
    with shop.writing() as connection:
        claimed = claims.claim(connection, worker="two", lease_seconds=60, limit=ITEMS)
    assert [row.state for row in rows(shop, STATES)].count("listed") == ITEMS - 1
    assert claimed == []


@pytest.mark.parametrize("changed", [False, True])
def test_what_is_given_back_waits_unless_it_changed_meanwhile(
    shop: Database, outcomes: list[PushOutcome], changed: bool
) -> None:
    held = PushOutcome(
        outcomes[0].mapping, PushResult.RELEASED, reason="held", settled=False, wait_seconds=30
    )
    if changed:
        run(shop, "UPDATE products SET stock_quantity = 3 WHERE id = :id", id=held.mapping.product_id)
    with shop.writing() as connection:
        acknowledge(connection, [held], most_attempts=3)
    waits = "SELECT next_attempt_at FROM fourseller_product_mappings WHERE id = :id"
    assert (value(shop, waits, id=held.mapping.id) is None) is changed
