"""Alerts: one per crossing, written with what they tell of, delivered to real targets."""

from __future__ import annotations

import threading

import pytest
from pydantic import SecretStr

from midas_pipelines.notify.alerts import (
    clear_alert,
    clear_alerts,
    mark_alert,
    match_alerts,
    open_subjects,
    raise_alert,
    raise_alerts,
)
from midas_pipelines.notify.delivery import RETRY, Target, TargetFailed, deliver, read_targets, something_due
from midas_pipelines.store.database import Database
from midas_pipelines.storefront.types import utc_now
from midas_pipelines_tests.notify.conftest import MailServer, WebhookReceiver
from midas_pipelines_tests.shop import rows, run, value

TEXT = "SKU-1 has 2 left: order more."


def tell(shop: Database, subject: str = "item:1:0", text: str = TEXT) -> bool:
    with shop.writing() as connection:
        return raise_alert(connection, kind="low_stock", subject=subject, text=text)


def clear(shop: Database) -> bool:
    with shop.writing() as connection:
        return clear_alert(connection, kind="low_stock", subject="item:1:0")


@pytest.mark.both_databases
def test_the_same_trouble_is_told_once_until_it_is_cleared(shop: Database) -> None:
    assert [tell(shop), tell(shop), tell(shop, "item:2:0")] == [True, False, True]
    assert [clear(shop), clear(shop), tell(shop)] == [True, False, True]


@pytest.mark.both_databases
def test_an_alert_lives_and_dies_with_its_transaction(shop: Database) -> None:
    with shop.engine.begin() as connection:
        raise_alert(connection, kind="low_stock", subject="item:1:0", text=TEXT)
        connection.rollback()
    assert not something_due(shop)


@pytest.mark.both_databases
def test_alerts_of_more_items_than_a_statement_has_parameters_are_closed_together(shop: Database) -> None:
    texts = {f"item:{number}:0": TEXT for number in range(70_000)}
    assert shop.write(match_alerts, kind="low_stock", texts=texts) == (len(texts), 0)
    assert shop.write(match_alerts, kind="low_stock", texts={}) == (0, len(texts))


@pytest.mark.both_databases
def test_many_raise_at_once_and_one_row_is_made(shop: Database) -> None:
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(tell(shop))) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(results) == 1
    assert value(shop, "SELECT count(*) FROM alerts") == 1


def test_mail_and_webhook_both_get_it_once(
    shop: Database, mail_server: MailServer, webhook: WebhookReceiver
) -> None:
    tell(shop)
    targets = [Target(mail_server.url), Target(webhook.url)]
    assert deliver(shop, targets).sent == 1
    assert deliver(shop, targets).sent == 0
    assert len(mail_server.inbox.mails) == len(webhook.bodies) == 1
    assert TEXT in mail_server.inbox.mails[0]
    assert webhook.bodies[0]["message"] == TEXT


def test_a_message_leads_to_the_console(shop: Database, webhook: WebhookReceiver) -> None:
    tell(shop, "item:1:0", "A-1 is low: `midas stock low` shows all.")
    assert deliver(shop, [Target(webhook.url)], "https://midas.example").sent == 1
    assert webhook.bodies[0]["message"] == "A-1 is low: https://midas.example/stock shows all."


def test_a_snoozed_alert_is_not_sent_until_then(shop: Database, webhook: WebhookReceiver) -> None:
    tell(shop)
    for hours, sent in ((1, 0), (-1, 1)):
        with shop.writing() as connection:
            mark_alert(connection, 1, snoozed_until=utc_now(3600 * hours))
        assert (something_due(shop), deliver(shop, [Target(webhook.url)]).sent) == (bool(sent), sent)


def test_a_hundred_alerts_are_a_few_messages(shop: Database, webhook: WebhookReceiver) -> None:
    for n in range(100):
        tell(shop, f"item:{n}:0", f"SKU-{n} is low.")
    assert deliver(shop, [Target(webhook.url)]).sent == 100
    assert len(webhook.bodies) == 2
    assert "SKU-7 is low." in "".join(body["message"] for body in webhook.bodies)


@pytest.mark.both_databases
def test_many_at_once_are_one_alert_with_the_ten_worst_until_the_last_is_over(shop: Database) -> None:
    texts = {f"item:{n}:0": f"SKU-{n:03} is out." for n in range(261)}
    with shop.writing() as connection:
        assert raise_alerts(connection, kind="low_stock", texts=texts) == 261
        assert raise_alerts(connection, kind="low_stock", texts=texts) == 0
    ((text,),) = rows(shop, "SELECT text FROM alerts")
    assert text.count("SKU-") == 10
    assert ("261 in all" in text, "SKU-009" in text, "251 more" in text) == (True, True, True)
    with shop.writing() as connection:
        assert clear_alerts(connection, kind="low_stock", subjects=list(texts)[:260]) == 260
        assert open_subjects(connection, "low_stock") == {"item:260:0"}
        assert raise_alerts(connection, kind="low_stock", texts={"item:3:0": "SKU-003 is out."}) == 1
        assert clear_alerts(connection, kind="low_stock", subjects=["item:260:0"]) == 1
    assert value(shop, "SELECT count(*) FROM alerts WHERE cleared_at IS NULL") == 1


@pytest.mark.both_databases
def test_matching_raises_renews_and_clears(shop: Database) -> None:
    for texts, unknown in [({"a": "1", "b": "1"}, ()), ({"a": "2"}, ("b",)), ({"c": "1"}, ("a",))]:
        with shop.writing() as connection:
            match_alerts(connection, kind="check_failed", texts=texts, unknown=unknown)
    found = rows(shop, "SELECT subject, text FROM alerts WHERE cleared_at IS NULL ORDER BY subject")
    assert [tuple(row) for row in found] == [("a", "2"), ("c", "1")]


def test_a_dead_target_is_tried_again_later_and_the_live_one_is_not_told_twice(
    shop: Database, mail_server: MailServer, webhook: WebhookReceiver
) -> None:
    tell(shop)
    webhook.status = 500
    targets = [Target(webhook.url), Target(mail_server.url)]
    first = deliver(shop, targets)
    assert (first.sent, first.waiting, len(mail_server.inbox.mails)) == (0, 1, 1)
    assert not something_due(shop)
    webhook.status = 200
    run(shop, "UPDATE alerts SET next_attempt_at = created_at")
    assert deliver(shop, targets).sent == 1
    assert (len(mail_server.inbox.mails), len(webhook.bodies)) == (1, 1)


@pytest.mark.parametrize(
    "url", ["json://127.0.0.1:1/hook", "nonsense://user:hunter2@x", "mailto://127.0.0.1:1"]
)
def test_a_target_that_cannot_work_raises_nothing_and_shows_no_address(shop: Database, url: str) -> None:
    tell(shop)
    result = deliver(shop, [Target(url)])
    assert result.waiting == 1
    [(reason,)] = rows(shop, "SELECT reason FROM alerts")
    assert "hunter2" not in reason + str(result) + repr(Target(url))
    assert reason.endswith(".")


def test_what_is_over_before_it_was_told_is_not_told(shop: Database, webhook: WebhookReceiver) -> None:
    tell(shop)
    clear(shop)
    assert deliver(shop, [Target(webhook.url)]).sent == 0
    assert webhook.bodies == []


def test_addresses_are_parted_at_white_space_and_at_commas_before_a_scheme() -> None:
    urls = SecretStr(
        "mailto://a@example.com?to=x@example.com,y@example.com,json://127.0.0.1:1\n slack://T/B/C"
    )
    assert [target.kind for target in read_targets(urls)] == ["mailto", "json", "slack"]
    assert [target.url for target in read_targets(SecretStr("json://a\r\njson://b\r\n"))] == [
        "json://a",
        "json://b",
    ]
    assert read_targets(None) == []


def test_a_failing_target_is_asked_less_and_less_often() -> None:
    assert [RETRY.seconds(n) for n in (1, 2, 3, 20)] == [60, 120, 240, 1800]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_a_target_is_not_followed(webhook: WebhookReceiver, status: int) -> None:
    webhook.status = status
    with pytest.raises(TargetFailed):
        Target(webhook.url).send("title", TEXT)
    assert webhook.followed == []
