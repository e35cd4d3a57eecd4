"""Mail and polls that fail, as Dagster shows them: what is told, what fails, and what is never shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from midas_pipelines_tests.defs.conftest import Execute, evaluation, failure, metadata
from midas_pipelines_tests.notify.smtp import Mailbox
from midas_pipelines_tests.shop import add_product, rows, run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

SECRET = "hunter2"
BUYER = {"name": "Zyxwvu Personname", "email": "zyxwvu@home.example", "phone": "+1-555-0987"}
NEVER_SHOWN = (SECRET, "zyxwvu", "personname", "555-0987")
Set = Callable[[str, str], None]


@pytest.fixture
def sold(environment: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """An order of a person who is to be written to."""
    monkeypatch.setenv("MIDAS_MAIL_FROM", "Midas <orders@shop.example>")
    add_product(environment.database, sku="A", stock_quantity=10)
    return environment.place(("A", 1), sales_channel="ebay", customer=BUYER)


def shown(result: dg.ExecuteInProcessResult) -> str:
    """Everything that the run has left for people to read: events, metadata, failures."""
    return "\n".join(f"{event.message} {event.event_specific_data!r}" for event in result.all_events)


def no_server(set_: Set, box: Mailbox, folder: Path) -> None:
    set_("MIDAS_SMTP_URL", f"smtp://me:{SECRET}@127.0.0.1:9")


def refused_buyer(set_: Set, box: Mailbox, folder: Path) -> None:
    box.refused[BUYER["email"]] = f"550 5.1.1 <{BUYER['email']}> {BUYER['name']} is not here"


def lost_letter(set_: Set, box: Mailbox, folder: Path) -> None:
    box.hang_up = True


def wrong_template(set_: Set, box: Mailbox, folder: Path) -> None:
    (folder / "received.txt").write_text("Hi\n{{ customer.name + 1 }}")
    set_("MIDAS_MAIL_TEMPLATES", str(folder))


BREAKAGES = {
    no_server: ("waiting", "could not be reached"),
    refused_buyer: ("failed", "refused the customer's address (550)"),
    lost_letter: ("failed", "the message may have been sent"),
    wrong_template: ("waiting", "The mail template received.txt, line 2, is wrong: TypeError"),
}


@pytest.mark.parametrize("breaks", BREAKAGES)
def test_mail_that_fails_fails_no_run_and_shows_neither_buyer_nor_password(
    environment: World,
    execute: Execute,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    sold: str,
    breaks: Callable[[Set, Mailbox, Path], None],
) -> None:
    counted, sentence = BREAKAGES[breaks]
    caplog.set_level(logging.DEBUG)
    with Mailbox() as box:
        monkeypatch.setenv("MIDAS_SMTP_URL", box.url)
        breaks(monkeypatch.setenv, box, tmp_path)
        execute("order_import")
        result = execute("customer_mail")
    told = metadata(result, "send_customer_mail")
    assert (result.success, told["sent"], told[counted]) == (True, 0, 1)
    assert sentence in told["problems"].records[0].data["reason"]
    assert told["problems"].records[0].data["order"] == sold
    ours = (
        "alerts",
        "customer_mails",
        "order_processing_logs",
        "fourseller_sync_logs",
        "fourseller_api_errors",
    )
    kept = [str(row) for table in ours for row in rows(environment.database, f"SELECT * FROM {table}")]
    logged = [record.getMessage() for record in caplog.records if record.name != "mail.log"]  # the box's own
    seen = "\n".join([shown(result), *kept, *logged, *capfd.readouterr()]).lower()
    assert [word for word in NEVER_SHOWN if word in seen] == []


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MIDAS_MAIL_FROM", "", "MIDAS_MAIL_FROM is not set: give the sender"),
        ("MIDAS_SMTP_URL", f"smtp://me:{SECRET}/x@mail.example", "MIDAS_SMTP_URL must be smtp://"),
    ],
)
def test_a_wrong_setting_fails_the_run_with_its_sentence(
    environment: World,
    execute: Execute,
    monkeypatch: pytest.MonkeyPatch,
    sold: str,
    name: str,
    value: str,
    sentence: str,
) -> None:
    monkeypatch.setenv("MIDAS_SMTP_URL", "smtp://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    imported = execute("order_import")
    result = execute("customer_mail") if imported.success else imported
    assert not result.success
    assert sentence in failure(result)
    assert SECRET not in shown(result)
    if name == "MIDAS_MAIL_FROM":  # the sale is imported all the same, and waits to be confirmed
        assert desk.order(environment, sold).outcome == "imported"
        assert len(rows(environment.database, "SELECT 1 FROM customer_mails WHERE state = 'waiting'")) == 1


FRESH = ("orders_are_fresh",)


def freshness(result: dg.ExecuteInProcessResult) -> tuple[bool, Any, dict[str, Any]]:
    """Whether the check passed, when it says that orders were read last, and its first offender."""
    found = evaluation(result, "orders_are_fresh")
    offenders = found.metadata.get("offenders")
    first = dict(offenders.records[0].data) if isinstance(offenders, dg.TableMetadataValue) else {}
    return found.passed, found.metadata["last_read"].value, first


def test_that_orders_are_not_read_is_found_by_a_job_that_reads_none(
    environment: World, execute: Execute
) -> None:
    passed, last, _ = freshness(execute("stock_watch", checks=FRESH))
    assert (passed, last) == (False, "never")
    execute("order_import")
    passed, last, offender = freshness(execute("stock_watch", checks=FRESH))
    assert (passed, offender) == (True, {})
    assert last.startswith(f"{datetime.now(UTC):%Y-%m-%d}")
    run(
        environment.database,
        "UPDATE fourseller_sync_logs SET started_at = '2026-01-02 03:04:05.000000+00:00'",
    )
    result = execute("stock_watch", checks=FRESH)
    assert freshness(result) == (
        False,
        "2026-01-02 03:04:05 UTC",
        {"last read": "2026-01-02 03:04:05 UTC", "at the latest": "6 minutes ago"},
    )
    assert result.success
    assert environment.calls() == {"GET": 1}  # of the one poll
