"""A person is found though all is sealed, gets a copy, and is erased; each request leaves its proof and no name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.orders.payload_vault import rewrap_payloads, vault_of
from midas_pipelines.store.privacy.keys import new_key
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.tables import api_errors, marketplace_orders
from midas_pipelines.sync.privacy import requests
from midas_pipelines.sync.privacy.erase import hold_buyer
from midas_pipelines.sync.privacy.requests import PrivacyAnswer, Subject, answer_request
from midas_pipelines_tests.shop import rows, run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import PAYLOAD_KEY, VAULT

PERSON = {
    "customer": {
        "name": "Zyxwvu Personname",
        "email": "Zyxwvu@Home.example",
        "phone": "+49 (171) 555-0987",
        "username": "zyx_buyer",
    },
    "shipping_address": {"name": "Old Aunt", "line1": "77 Hiddenstreet", "city": "Secretville"},
    "buyer_note": "or write to second@home.example",
}


@pytest.fixture
def sold(world: World) -> list[str]:
    """Two orders of that person, and one of somebody else."""
    other = desk.sold(world, A=1)
    mine = [world.place(("A", 1), **PERSON) for _ in range(2)]
    world.import_orders()
    return [*mine, other]


def ask(world: World, kind: str, subject: str, text: str) -> PrivacyAnswer:
    return answer_request(world.sync_context(), kind, Subject(subject, text), "anna")


NAMED = [
    ("email", " zyxwvu@home.EXAMPLE"),
    ("email", "second@home.example"),
    ("phone", "0171 5550987"),
    ("phone", "49171/555 0987"),
    ("name", "personname,  ZYXWVU"),
    ("name", "Old Aunt"),
    ("account", "Zyx_Buyer"),
]


PARTS = [("email", "home.example"), ("name", "Zyxwvu"), ("phone", "0987"), ("account", "%")]


@pytest.mark.both_databases
def test_a_person_is_found_by_a_whole_name_and_not_by_a_part(world: World, sold: list[str]) -> None:
    for kind, text in NAMED:
        assert ask(world, "find", kind, text).orders == sold[:2], text
    for kind, text in PARTS:
        assert ask(world, "find", kind, text).orders == [], text
    with pytest.raises(WrongInput, match="is empty"):
        ask(world, "find", "phone", "none")


@pytest.mark.only_on("postgresql")  # SQLite has no index of several values of a row
def test_a_person_is_found_by_an_index(world: World, sold: list[str]) -> None:
    with world.database.reading() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # a few rows are faster read one by one
        for table in (marketplace_orders, marketplace_webhooks):
            query = sa.select(table.c.id).where(requests._names(connection, table.c.payload, ["e00"]))
            compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
            plan = "\n".join(connection.scalars(sa.text(f"EXPLAIN {compiled}")))
            assert f"{table.name}_persons" in plan


def test_an_address_that_the_shop_edited_is_found_too(world: World, sold: list[str]) -> None:
    local = desk.order(world, sold[2]).local_order_id
    run(
        world.database,
        "UPDATE orders SET shipping_address = :a WHERE id = :id",
        a='{"name": "Zyxwvu Personname"}',
        id=local,
    )
    assert ask(world, "find", "name", "Zyxwvu Personname").orders == [sold[2], *sold[:2]]


def test_a_rotation_takes_the_index_along(world: World, sold: list[str]) -> None:
    new = new_key()
    world.changes["payload_key"] = f"{new},{PAYLOAD_KEY}"
    assert ask(world, "find", "email", "zyxwvu@home.example").orders == sold[:2]
    rewrap_payloads(world.database, vault_of(world.settings))
    world.changes["payload_key"] = new
    assert ask(world, "find", "email", "zyxwvu@home.example").orders == sold[:2]


def event(world: World, name: str, subject: str | None, data: dict[str, Any]) -> None:
    row = {"webhook_id": name, "type": "odd", "subject": subject, "payload": VAULT.seal(data)}
    with world.database.writing() as connection:
        connection.execute(sa.insert(marketplace_webhooks).values(row))


def test_the_copy_has_all_with_purposes_recipients_and_periods(world: World, sold: list[str]) -> None:
    event(world, "of an order", f"order:{sold[0]}", PERSON)
    event(world, "of none", None, PERSON)
    with world.database.writing() as connection:
        failed = {"endpoint": "PATCH /orders/{id}", "item": sold[0], "attempt": 1}
        connection.execute(sa.insert(api_errors).values(failed))
    answer = ask(world, "export", "email", "zyxwvu@home.example")
    assert answer.export is not None
    first = answer.export["orders"][0]
    assert first["orders"][0]["shipping_address"]["line1"] == "77 Hiddenstreet"
    assert first["marketplace_orders"][0]["payload"]["buyer_note"].endswith("second@home.example")
    assert first["marketplace_webhooks"][0]["payload"] == PERSON
    assert first["fourseller_api_errors"][0]["item"] == sold[0]
    assert answer.export["events"][0]["payload"] == PERSON
    assert "4Seller" in answer.export["recipients"]
    assert {"what", "why", "ends"} < answer.export["fields"][0].keys()
    assert first["kept"].startswith("30 days")


@pytest.mark.both_databases
def test_an_erasure_leaves_its_proof_and_no_name(world: World, sold: list[str]) -> None:
    event(world, "of none", None, PERSON)
    with world.database.writing() as connection:
        row, until = desk.order(world, sold[1]).id, datetime.now(UTC) + timedelta(days=9)
        hold_buyer(connection, row, until=until, because="audit", by="anna")
    answer = ask(world, "erase", "email", "zyxwvu@home.example")
    assert (answer.erased, list(answer.held), answer.left, answer.events) == (sold[:1], sold[1:2], [], 1)
    assert ask(world, "find", "email", "zyxwvu@home.example").orders == sold[1:2]
    assert "4Seller" in answer.notify
    assert ask(world, "erase", "email", "zyxwvu@home.example").notify == {}  # the law keeps what is left
    with world.database.writing() as connection:
        requests.note_sent(connection, answer.request, to="4Seller", what="asked to erase it", by="anna")
    with world.database.reading() as connection:
        kept = next(one for one in requests.list_requests(connection) if one["id"] == answer.request)
    assert (kept["due_at"] - kept["received_at"]).days in (29, 30)
    assert (kept["proof"]["erased"], kept["sent"][0]["to"]) == (sold[:1], "4Seller")
    assert kept["done_at"] is not None
    assert "zyxwvu" not in str(rows(world.database, "SELECT * FROM privacy_requests")).lower()
    desk.assert_whole(world)


@pytest.mark.parametrize("point", range(4))
def test_an_erasure_that_dies_is_taken_up_by_the_same_words(
    world: World, sold: list[str], monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    step = ("erase_order", "erase_order", "empty_events", "_record")[point]
    work, calls = getattr(requests, step), []

    def dies(*given: object) -> object:
        calls.append(1)
        if len(calls) == 1 + (point == 1):
            raise MemoryError
        return work(*given)

    monkeypatch.setattr(requests, step, dies)
    with pytest.raises(MemoryError):
        ask(world, "erase", "email", "zyxwvu@home.example")
    monkeypatch.undo()
    assert ask(world, "erase", "email", "ZYXWVU@home.example").done
    assert ask(world, "find", "email", "zyxwvu@home.example").orders == []
    assert len(rows(world.database, "SELECT id FROM privacy_requests WHERE kind = 'erase'")) == 1
    desk.assert_whole(world)
