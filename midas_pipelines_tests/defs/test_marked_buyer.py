"""A buyer with an unmistakable word in every field goes through everything; it is found where the register says, then nowhere."""

from __future__ import annotations

import io
import logging
import re
from html import unescape
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from pyrage import x25519

from midas_pipelines.cli.dagster.running import QUIET
from midas_pipelines.definitions import defs
from midas_pipelines.recovery.backup import create_backup
from midas_pipelines.recovery.places import find_backup
from midas_pipelines.store.gateway.keys import Role
from midas_pipelines.store.privacy.register import TABLES
from midas_pipelines_tests.gateway.console.visitor import Visitor, visitor_of
from midas_pipelines_tests.gateway.running import Gateway, running_gateway
from midas_pipelines_tests.notify.smtp import Mailbox
from midas_pipelines_tests.shop import add_product, rows, run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

WORD = "zyxwvu"
MARKED: dict[str, Any] = {
    "customer": {"name": "Zyxwvu Personname", "email": "zyxwvu@home.example", "phone": "+1-zyxwvu-0987"},
    "shipping_address": {"line1": "77 Zyxwvu Street", "city": "Zyxwvuville", "postal_code": "ZYXWVU"},
    "billing_address": {"line1": "78 Zyxwvu Street"},
    "buyer_note": "Leave it with Zyxwvu",
    "gift": {"to": "Zyxwvu", "amount": "0"},
    "discounts": [{"code": "ZYXWVU-10", "amount": "0.00"}],
}
ODD = {
    "status": "Awaiting Zyxwvu",
    "currency": "Zyxwvu",
    "sales_channel": "the shop of Zyxwvu",
    "tracking": {"carrier": "Zyxwvu", "number": "Zyxwvu"},
    "total": "34.99",
    "items": [
        {"sku": "A", "product_id": "of Zyxwvu", "title": "Zyxwvu", "quantity": 2, "price": "10.00"},
        {"sku": "one for Zyxwvu", "title": "for Zyxwvu", "quantity": 1, "price": "10.00"},
    ],
}
JOBS = ("order_import", "status_sync", "stock_watch", "buyer_erasure")


def places(world: World) -> set[tuple[str, str]]:
    """The columns in which the word can be read."""
    found = set()
    for table in sa.inspect(world.database.engine).get_table_names():
        for row in rows(world.database, f'SELECT * FROM "{table}"'):
            found |= {(table, name) for name, cell in row._mapping.items() if WORD in str(cell).lower()}
    return found


def in_files(folder: Path) -> list[str]:
    """The files below a folder in which the word can be read."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path.name for path in files if WORD.encode() in path.read_bytes().lower()]


def in_backup(world: World) -> list[str]:
    """The parts of a new backup in which the word can be read by who has its key; no file shows it in clear."""
    create_backup(world.settings, world.database, "ann")
    assert in_files(Path(str(world.settings.backup_to))) == []
    backup, found = find_backup(world.settings, None), []
    for part in backup.manifest.parts:
        plain = io.BytesIO()
        backup.open(part.name, plain.write)
        found += [part.name] if WORD.encode() in plain.getvalue().lower() else []
    return found


def on_pages(visitor: Visitor, *signs: str) -> tuple[int, set[str]]:
    """How many pages of the console there are, and the kinds of those on which one of the signs can be read."""
    left, seen, found = ["/"], {"/sign-out", "/docs", "/openapi.json"}, set()
    while left:
        path = left.pop()
        if path in seen or path.startswith(("/static", "/sign-in")):
            continue
        seen.add(path)
        page = visitor.client.get(path).text
        left += [unescape(link) for link in re.findall(r'href="(/[^"#]*)', page)]
        if any(sign in page.lower() for sign in signs):
            found.add(path.split("/")[1])
    return len(seen), found


def live(world: World, gateway: Gateway, box: Mailbox) -> list[str]:
    """Imports, edits, shipping, mail, webhooks, conflicts and failures; the orders of the buyer."""
    state = world.sandbox.state
    plain = world.place(("A", 1), sales_channel="ebay", **MARKED)
    odd = world.place(("A", 2), **MARKED | ODD)
    unreadable = world.place(("A", 1), items="Zyxwvu", **MARKED)
    cancelled = world.place(("A", 1), sales_channel="ebay", **MARKED)
    placed = [plain, odd, unreadable, cancelled]
    for order in placed:
        gateway.tell("order.created", state.orders[order])
    gateway.tell("order.renamed", state.orders[plain])
    gateway.tell("order.created", MARKED)  # without an id
    gateway.settled()
    gateway.call(
        "PATCH", f"/api/marketplace/orders/{plain}", gateway.key(Role.ADMIN), json={"status": "Zyxwvu"}
    )
    desk.edit(world, plain, customer=MARKED["customer"] | {"name": "New Zyxwvu"})
    world.import_orders()
    desk.pack(world, cancelled)
    desk.market(world, cancelled, "cancelled", **MARKED)
    with desk.refused(world, 422, orders=placed):
        desk.sync(world)
    desk.sync(world)
    box.answers = ["451 no such Zyxwvu", "550 Zyxwvu is spam"]
    return placed


def test_a_marked_buyer_is_where_the_register_says_and_after_an_erasure_nowhere(
    environment: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.CRITICAL, "mail.log")  # the mail server of the tests
    world, home = environment, tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("MIDAS_MAIL_FROM", "Midas <orders@shop.example>")
    add_product(world.database, sku="A", stock_quantity=10)
    identity = x25519.Identity.generate()
    (tmp_path / "identity").write_text(str(identity))
    world.changes |= {
        "backup_to": str(tmp_path / "backups"),
        "backup_recipients": str(identity.to_public()),
        "backup_identity_file": tmp_path / "identity",
        "dagster_home": str(home),
    }
    with (
        visitor_of(world) as visitor,
        Mailbox() as box,
        dg.DagsterInstance.local_temp(str(home)) as instance,
        running_gateway(
            world, dagster_home=str(home), smtp_url=box.url, mail_from="M <m@shop.example>"
        ) as gateway,
    ):
        monkeypatch.setenv("MIDAS_SMTP_URL", box.url)

        def work(*jobs: str) -> None:
            for job in jobs:
                defs.resolve_job_def(job).execute_in_process(
                    instance=instance, run_config=QUIET, raise_on_error=False
                )

        placed = live(world, gateway, box)
        work(*JOBS)
        metrics = gateway.call("GET", "/metrics", gateway.key(Role.ADMIN)).text
        found = places(world)
        assert ("orders", "shipping_address") in found
        known = {
            (table, name)
            for table, entry in TABLES.items()
            for name, one in entry.personal.items()
            if not one.sealed
        }
        assert found - known == set()
        visitor.sign_in(Role.ADMIN)
        pages, shown_on = on_pages(visitor, "personname", "home.example", "zyxwvu street", "zyxwvuville")
        assert pages > 20
        assert shown_on == set()  # not even on the page of the order
        assert in_backup(world) == [f"shop.{'sql' if world.database.is_postgresql else 'sqlite'}.gz.age"]
        run(world.database, "UPDATE order_status_history SET created_at = '2020-01-01 00:00:00+00:00'")
        run(world.database, "UPDATE marketplace_webhooks SET received_at = '2020-01-01 00:00:00+00:00'")
        run(
            world.database,
            "UPDATE marketplace_orders SET imported_at = '2020-01-01 00:00:00+00:00', source_updated_at = NULL, "
            "content_at = NULL",
        )
        work("buyer_erasure")
        assert rows(world.database, "SELECT count(*) FROM marketplace_orders WHERE erased_at IS NULL") == [
            (0,)
        ]
        assert len(placed) == 4
        assert places(world) == set()
        world.import_orders()
        assert places(world) == set()
        assert on_pages(visitor, WORD)[1] == set()
        assert in_backup(world) == []
    assert in_files(home) == []
    shown = capfd.readouterr()
    assert WORD not in (metrics + caplog.text + shown.out + shown.err).lower()
    if not world.database.is_postgresql:
        file = Path(str(world.database.engine.url.database))
        assert [
            path for path in file.parent.glob(f"{file.name}*") if WORD.encode() in path.read_bytes().lower()
        ] == []
    desk.assert_whole(world)
