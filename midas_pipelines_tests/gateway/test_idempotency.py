"""`Idempotency-Key`: one call is executed, and those with the same key and body get its answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from midas_pipelines.store.gateway.keys import Role
from midas_pipelines_tests.gateway.running import Gateway
from midas_pipelines_tests.shop import add_product, run, value
from midas_pipelines_tests.sync.world import World

SKU = {"skus": ["SCR-1"]}


def sync(door: Gateway, key: str, body: dict[str, Any] = SKU, idempotency_key: str = "k1") -> Any:
    return door.call("POST", "sync/products", key, json=body, headers={"Idempotency-Key": idempotency_key})


@pytest.mark.both_databases
def test_twins_are_executed_once_and_answered_alike(world: World, door: Gateway) -> None:
    add_product(world.database, sku="SCR-1")
    key = door.key(Role.OPERATOR)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: sync(door, key), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert value(world.database, "SELECT count(*) FROM fourseller_sync_logs") == 1
    assert sync(door, key).headers["idempotent-replayed"] == "true"


def test_another_body_is_refused_and_another_key_or_caller_is_executed(world: World, door: Gateway) -> None:
    add_product(world.database, sku="SCR-1")
    key = door.key(Role.OPERATOR)
    first = sync(door, key)
    other = sync(door, key, {"skus": ["SCR-1"], "dry_run": True})
    assert (other.status_code, "another body" in other.json()["detail"]) == (422, True)
    assert sync(door, key, idempotency_key="k2").json()["run_id"] != first.json()["run_id"]
    assert sync(door, door.key(Role.ADMIN)).json()["run_id"] != first.json()["run_id"]
    assert sync(door, key, idempotency_key="two words").status_code == 400


def test_a_refusal_is_kept_and_a_failure_of_ours_is_not(world: World, door: Gateway) -> None:
    key = door.key(Role.OPERATOR)
    assert sync(door, key).status_code == 404
    add_product(world.database, sku="SCR-1")
    again = sync(door, key)
    assert (again.status_code, again.headers["content-type"]) == (404, "application/problem+json")
    world.faults(s500=1.0)
    assert door.call("POST", "orders", key, headers={"Idempotency-Key": "o"}).status_code == 503
    world.faults()
    assert door.call("POST", "orders", key, headers={"Idempotency-Key": "o"}).status_code == 200


def test_an_answer_is_kept_for_a_day(world: World, door: Gateway) -> None:
    key = door.key(Role.OPERATOR)
    sync(door, key)
    run(world.database, "UPDATE midas_repeated_calls SET begun_at = '2026-01-01 00:00:00'")
    add_product(world.database, sku="SCR-1")
    assert sync(door, key).status_code == 200
