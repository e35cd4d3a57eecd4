"""Claims: no two workers hold an item at once, nothing that changed meanwhile counts as pushed, nothing is lost."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items import acknowledge as acknowledging
from midas_pipelines.store.items import claims
from midas_pipelines.store.items.acknowledge import PushOutcome, PushResult
from midas_pipelines.store.items.mappings import Mapping, mark_dirty
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import utc_now
from midas_pipelines_tests.shop import add_product, rows, run

MOST_ATTEMPTS = 3


def claim(shop: Database, worker: str = "one", limit: int = 100, **options: Any) -> list[Mapping]:
    """What a worker claims in a transaction of its own."""
    with shop.writing() as connection:
        return claims.claim(connection, worker=worker, lease_seconds=60, limit=limit, **options)


def acknowledge(shop: Database, *outcomes: PushOutcome) -> list[PushOutcome]:
    """What could not be written yet."""
    with shop.writing() as connection:
        return acknowledging.acknowledge(connection, outcomes, most_attempts=MOST_ATTEMPTS)[1]


def listed(mapping: Mapping, quantity: int = 5) -> PushOutcome:
    """The outcome of a successful push."""
    return PushOutcome(
        mapping,
        PushResult.LISTED,
        fourseller_product_id=f"fs-{mapping.id}",
        content_hash="hash",
        price=Decimal("10.00"),
        quantity=quantity,
    )


def row(shop: Database, mapping_id: int = 1) -> Any:
    """A mapping as it is stored."""
    return rows(shop, "SELECT * FROM fourseller_product_mappings WHERE id = :id", id=mapping_id)[0]


def change(shop: Database, quantity: int, product: int = 1) -> None:
    """A change of stock by the shop."""
    run(shop, "UPDATE products SET stock_quantity = :q WHERE id = :id", q=quantity, id=product)


@pytest.fixture
def item(shop: Database) -> Database:
    """A shop with one product, whose mapping has the id 1."""
    add_product(shop)
    return shop


def test_workers_at_once_never_get_the_same_item_and_together_get_all(shop: Database) -> None:
    for _ in range(40):
        add_product(shop)
    workers = [f"worker {number}" for number in range(6)]
    together = Barrier(len(workers), timeout=30)

    def work(worker: str) -> list[int]:
        together.wait()
        taken: list[int] = []
        while batch := claim(shop, worker, limit=3):
            taken += [mapping.id for mapping in batch]
            assert len(taken) <= 40
        return taken

    with ThreadPoolExecutor(len(workers)) as pool:
        counted = Counter(taken for batch in pool.map(work, workers) for taken in batch)
    assert counted == Counter(range(1, 41))


def test_a_claimed_item_is_nobody_elses_until_its_lease_ends(item: Database) -> None:
    assert len(claim(item, "one")) == 1
    assert claim(item, "two") == claim(item, "one") == []
    _end_lease(item)
    assert len(claim(item, "two")) == 1


def test_only_dirty_items_are_claimed_in_the_order_of_their_ids(shop: Database) -> None:
    for _ in range(4):
        add_product(shop)
    acknowledge(shop, *[listed(mapping) for mapping in claim(shop, ids=[2])])
    assert [mapping.id for mapping in claim(shop, limit=2)] == [1, 3]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ids": [2]}, [2]),
        ({"ids": []}, []),
        ({"after_id": 1}, [2, 3]),
        ({"listed_only": True}, [3]),
        ({"limit": 1}, [1]),
    ],
)
def test_a_claim_can_be_narrowed(shop: Database, options: dict[str, Any], expected: list[int]) -> None:
    for _ in range(3):
        add_product(shop)
    run(shop, "UPDATE fourseller_product_mappings SET fourseller_product_id = 'fs' WHERE id = 3")
    assert [mapping.id for mapping in claim(shop, **options)] == expected


def test_an_acknowledged_item_is_clean_and_says_what_4seller_shows(item: Database) -> None:
    (mapping,) = claim(item)
    assert acknowledge(item, listed(mapping, quantity=5)) == []
    now = row(item)
    assert (now.dirty_since, now.claimed_by, now.claimed_until) == (None, None, None)
    assert (now.state, now.acked_version, now.acked_quantity) == ("listed", mapping.version, 5)
    assert (now.acked_hash, now.fourseller_product_id, now.acked_at is not None) == ("hash", "fs-1", True)


@pytest.mark.parametrize(
    "result",
    [
        PushResult.LISTED,
        PushResult.QUANTITY,
        PushResult.UNCHANGED,
        PushResult.QUARANTINED,
        PushResult.REMOVED,
        PushResult.FAILED,
        PushResult.RELEASED,
    ],
)
def test_an_item_that_changed_under_the_push_stays_dirty(item: Database, result: PushResult) -> None:
    run(item, "UPDATE fourseller_product_mappings SET attempts = :last", last=MOST_ATTEMPTS - 1)
    (mapping,) = claim(item)
    change(item, 3)
    acknowledge(
        item,
        dataclasses.replace(
            listed(mapping), result=result, reason="x" if result is PushResult.FAILED else None
        ),
    )
    now = row(item)
    assert (now.dirty_since is not None, now.version, now.claimed_by) == (True, mapping.version + 1, None)
    assert now.acked_version <= mapping.version
    assert [again.version for again in claim(item, "two", ignore_delays=True)] == [mapping.version + 1]


def test_an_acked_version_never_falls(item: Database) -> None:
    (old,) = claim(item)
    change(item, 9)
    acknowledge(item, PushOutcome(old, PushResult.RELEASED))
    (new,) = claim(item)
    acknowledge(item, listed(new, quantity=9))
    acknowledge(item, listed(old, quantity=5))
    assert (row(item).acked_version, row(item).acked_quantity) == (new.version, 9)


def test_ten_nine_ten_are_three_versions(item: Database) -> None:
    versions = []
    for quantity in (10, 9, 10):
        change(item, quantity)
        (mapping,) = claim(item)
        versions.append(mapping.version)
        acknowledge(item, listed(mapping, quantity))
    assert len(set(versions)) == 3


@pytest.mark.both_databases
def test_what_is_listed_and_changed_comes_before_any_number_of_new_items_and_by_an_index(
    shop: Database,
) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
    run(shop, f"{many}INSERT INTO fourseller_product_mappings (product_id) SELECT i FROM n")
    state = "UPDATE fourseller_product_mappings SET fourseller_product_id = 'fs-' || id, dirty_since = {} WHERE id = {}"
    for mapping, since in ((4000, "'2026-01-01 00:00:02'"), (4500, "'2026-01-01 00:00:01'"), (4600, "NULL")):
        run(shop, state.format(since, mapping))
    run(shop, "ANALYZE fourseller_product_mappings")
    asked: list[tuple[str, Any]] = []
    sa.event.listen(shop.engine, "before_cursor_execute", lambda *given: asked.append(given[2:4]))
    with shop.reading() as connection:
        found = claims.read_claimable(connection, limit=500, new=5)
        explain = "EXPLAIN" if shop.is_postgresql else "EXPLAIN QUERY PLAN"
        text, given = next(one for one in asked if one[0].startswith("SELECT"))
        plan = str(connection.exec_driver_sql(f"{explain} {text}", given).all())
    assert [one.id for one in found] == [4500, 4000, *range(1, 8)]
    assert [one.listed for one in found] == [True, True, *[False] * 7]
    assert "fourseller_product_mappings_changed" in plan


@pytest.mark.parametrize("again", ["one", "two"])
def test_the_outcome_of_a_lost_claim_is_not_written_and_its_item_is_pushed_again(
    item: Database, again: str
) -> None:
    (lost,) = claim(item, "one")
    _end_lease(item)
    (new,) = claim(item, again)
    assert acknowledge(item, dataclasses.replace(listed(lost, quantity=90), wrote=True)) == []
    assert row(item).acked_quantity is None
    acknowledge(item, listed(new, quantity=7))
    assert (row(item).acked_quantity, row(item).dirty_since) == (7, None)
    assert claims.free_dead_claims(item) == 1
    assert row(item).dirty_since is not None
    assert (row(item).acked_quantity, row(item).acked_hash, row(item).recheck_at) == (None, None, None)


def test_a_claim_that_ends_without_an_acknowledgement_is_pushed_again_once_a_late_write_has_arrived(
    item: Database,
) -> None:
    claim(item, "dead")
    assert claims.free_dead_claims(item) == 1
    (mapping,) = claim(item)
    acknowledge(item, listed(mapping))
    assert (row(item).dirty_since, claims.free_dead_claims(item)) == (None, 0)
    _end_delay(item)
    assert claims.free_dead_claims(item) == 1
    assert (row(item).version, row(item).dirty_since is not None) == (mapping.version + 1, True)


def test_an_item_that_failed_for_good_is_pushed_again_for_a_late_write_once_it_was_freed(
    item: Database,
) -> None:
    for _ in range(MOST_ATTEMPTS):
        (mapping,) = claim(item, ignore_delays=True)
        acknowledge(item, PushOutcome(mapping, PushResult.FAILED, reason="No answer.", uncertain=True))
    _end_delay(item)
    assert (row(item).state, claims.free_dead_claims(item)) == ("quarantined", 0)
    change(item, 3)
    (mapping,) = claim(item)
    acknowledge(item, listed(mapping, quantity=3))
    assert (row(item).state, claims.free_dead_claims(item)) == ("listed", 1)


def test_a_second_create_keeps_its_mark_until_the_first_one_cannot_arrive_any_more(item: Database) -> None:
    run(item, "UPDATE fourseller_product_mappings SET creating_since = '2000-01-01 00:00:00'")
    (mapping,) = claim(item)
    acknowledge(item, dataclasses.replace(listed(mapping), uncertain=True))
    change(item, 3)
    (mapping,) = claim(item)
    acknowledge(item, listed(mapping, quantity=3))
    assert row(item).creating_since is not None
    _end_delay(item)
    claims.free_dead_claims(item)
    (mapping,) = claim(item)
    acknowledge(item, listed(mapping, quantity=3))
    assert row(item).creating_since is None


def test_a_claim_that_ended_but_was_taken_by_nobody_still_counts(item: Database) -> None:
    (mapping,) = claim(item)
    _end_lease(item)
    acknowledge(item, listed(mapping))
    assert row(item).state == "listed"


def test_releasing_ends_a_workers_claims_and_no_others_without_an_attempt(shop: Database) -> None:
    for _ in range(3):
        add_product(shop)
    claim(shop, "one", limit=2)
    claim(shop, "two")
    with shop.writing() as connection:
        assert claims.release_claims(connection, "one") == 2
        assert claims.release_claims(connection, "one") == 0
    assert [row(shop, number).claimed_by for number in (1, 2, 3)] == [None, None, "two"]
    assert [row(shop, number).attempts for number in (1, 2, 3)] == [0, 0, 0]


def test_a_failed_item_waits_longer_each_time_and_is_set_aside_in_the_end(item: Database) -> None:
    seen = []
    for _ in range(MOST_ATTEMPTS):
        (mapping,) = claim(item, ignore_delays=True)
        acknowledge(item, PushOutcome(mapping, PushResult.FAILED, reason="4Seller did not answer."))
        now = row(item)
        seen.append((now.attempts, now.next_attempt_at is not None, now.state, now.dirty_since is not None))
    assert seen == [(1, False, "new", True), (2, True, "new", True), (3, seen[2][1], "quarantined", False)]
    assert row(item).reason == "4Seller did not answer."
    assert claim(item, ignore_delays=True) == []


def test_what_was_set_aside_is_pushed_again_once_it_changes(item: Database) -> None:
    (mapping,) = claim(item)
    acknowledge(item, PushOutcome(mapping, PushResult.QUARANTINED, reason="It has no SKU."))
    assert claim(item) == []
    run(item, "UPDATE products SET sku = 'NEW'")
    (again,) = claim(item)
    acknowledge(item, listed(again))
    assert (row(item).state, row(item).reason) == ("listed", None)


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(0, 0), (1, 0), (2, 30), (3, 60), (4, 120), (7, 960), (8, 1800), (99, 1800)]
)
def test_the_delay_doubles_up_to_an_hour(attempts: int, seconds: float) -> None:
    assert claims.RETRY.seconds(attempts) == seconds


@pytest.mark.parametrize("result", [PushResult.FAILED, PushResult.RELEASED])
def test_an_item_whose_next_attempt_is_not_due_is_left_alone(item: Database, result: PushResult) -> None:
    (mapping,) = claim(item)
    acknowledge(item, PushOutcome(mapping, result, reason="Slow down.", wait_seconds=59.5))
    assert claim(item) == []
    assert row(item).attempts == (1 if result is PushResult.FAILED else 0)
    _make_due(item)
    assert len(claim(item)) == 1


@pytest.mark.parametrize("result", [PushResult.FAILED, PushResult.RELEASED])
def test_a_delay_is_never_shorter_than_4seller_asked_for(item: Database, result: PushResult) -> None:
    (mapping,) = claim(item)
    acknowledge(item, PushOutcome(mapping, result, reason="Slow down.", wait_seconds=59.9))
    with item.reading() as connection:
        due, now = connection.execute(sa.select(mappings.c.next_attempt_at, utc_now())).one()
    assert timedelta(seconds=59) < due - now <= timedelta(seconds=60)


def test_marking_dirty_is_a_new_version(item: Database) -> None:
    (mapping,) = claim(item)
    acknowledge(item, listed(mapping))
    with item.writing() as connection:
        mark_dirty(connection, [1])
    assert (row(item).version, row(item).dirty_since is not None) == (mapping.version + 1, True)


def test_removal_forgets_the_product_and_frees_its_sku(item: Database) -> None:
    run(
        item,
        "UPDATE fourseller_product_mappings SET sku = 'A', fourseller_product_id = 'fs', acked_hash = 'h'",
    )
    (mapping,) = claim(item)
    acknowledge(item, PushOutcome(mapping, PushResult.REMOVED, reason="Archived in the shop."))
    now = row(item)
    assert (now.state, now.sku, now.fourseller_product_id, now.acked_hash) == ("removed", None, None, None)
    assert now.dirty_since is None


def test_one_sku_and_one_4seller_product_belong_to_one_item(shop: Database) -> None:
    for _ in range(2):
        add_product(shop)
    for column in ("sku", "fourseller_product_id"):
        with pytest.raises(sa.exc.IntegrityError):
            run(shop, f"UPDATE fourseller_product_mappings SET {column} = 'the same'")


# --- A transaction of the shop's that is still open, on PostgreSQL ---------------------------------------------


@pytest.fixture
def held(postgresql_shop: Database) -> Iterator[Database]:
    """Two products, of which the shop is changing the first and has not committed."""
    for _ in range(2):
        add_product(postgresql_shop)
    mine = claim(postgresql_shop, "one", ids=[1])
    assert len(mine) == 1
    with postgresql_shop.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE products SET stock_quantity = 1 WHERE id = 1")
        yield postgresql_shop
        connection.rollback()


def test_a_claim_passes_over_what_the_shop_is_changing(held: Database) -> None:
    run(held, "UPDATE fourseller_product_mappings SET claimed_by = NULL, claimed_until = NULL WHERE id = 2")
    assert [mapping.id for mapping in claim(held, "two")] == [2]


def test_an_outcome_the_shop_holds_up_is_given_back_to_be_written_later(held: Database) -> None:
    (other,) = claim(held, "one", ids=[2])
    waiting = listed(dataclasses.replace(other, id=1))
    assert acknowledge(held, waiting, listed(other)) == [waiting]
    assert row(held, 2).state == "listed"


def test_release_and_mark_dirty_do_not_wait_for_the_shop(held: Database) -> None:
    with held.writing() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
        assert claims.release_claims(connection, "one") == 0
        mark_dirty(connection, [1, 2])
    assert row(held, 2).version == 3


def _end_lease(shop: Database) -> None:
    run(shop, "UPDATE fourseller_product_mappings SET claimed_until = '2000-01-01 00:00:00'")


def _end_delay(shop: Database) -> None:
    due = "UPDATE fourseller_product_mappings SET recheck_at = '2000-01-01 00:00:00' WHERE recheck_at IS NOT NULL"
    run(shop, due)


def _make_due(shop: Database) -> None:
    run(shop, "UPDATE fourseller_product_mappings SET next_attempt_at = '2000-01-01 00:00:00'")
