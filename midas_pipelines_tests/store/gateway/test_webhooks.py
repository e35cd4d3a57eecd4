"""Events that are done with are forgotten after a while; whatever still needs somebody never is."""

from __future__ import annotations

import pytest

from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.gateway.webhooks import FinishedWebhook, NewWebhook, WebhookOutcome
from midas_pipelines.storefront.types import SQLITE_NOW
from midas_pipelines_tests.shop import run, value


def settled(shop: Database, name: str, outcome: str | None, *, days: int) -> None:
    with shop.writing() as connection:
        webhooks.store_webhooks(connection, [NewWebhook(name, "order.created", None, "plain:{}")])
    if outcome is None:
        return
    ago = (
        f"clock_timestamp() - interval '{days} days'"
        if shop.is_postgresql
        else SQLITE_NOW.replace("'now'", f"'now', '-{days} days'")
    )
    run(
        shop,
        f"UPDATE marketplace_webhooks SET outcome = '{outcome}', processed_at = {ago} WHERE webhook_id = '{name}'",
    )


@pytest.mark.parametrize("outcome", ["applied", "superseded"])
def test_what_is_done_with_is_forgotten_when_it_is_old(shop: Database, outcome: str) -> None:
    for number in range(7):
        settled(shop, f"old-{number}", outcome, days=31)
    settled(shop, "young", outcome, days=29)
    assert webhooks.delete_old_webhooks(shop, days=30, block=3) == 7
    assert value(shop, "SELECT webhook_id FROM marketplace_webhooks") == "young"


def test_what_waits_or_was_set_aside_is_kept_for_ever(shop: Database) -> None:
    settled(shop, "aside", "quarantined", days=999)
    settled(shop, "waits", None, days=999)
    assert webhooks.delete_old_webhooks(shop, days=1) == 0
    assert value(shop, "SELECT count(*) FROM marketplace_webhooks") == 2


def test_a_worker_whose_claim_has_passed_to_another_writes_nothing(shop: Database) -> None:
    with shop.writing() as connection:
        webhooks.store_webhooks(connection, [NewWebhook("m", "order.created", "order:1", "plain:{}")])
        (frozen,) = webhooks.claim(connection, worker="frozen", lease_seconds=60, limit=9, orders=True)
    webhooks.free_dead(shop)
    with shop.writing() as connection:
        (taken,) = webhooks.claim(connection, worker="other", lease_seconds=60, limit=9, orders=True)
        late = FinishedWebhook(frozen, None, "slow", wait_seconds=600)
        webhooks.finish_webhooks(connection, [late], worker="frozen")
        webhooks.finish_webhooks(connection, [FinishedWebhook(taken, WebhookOutcome.APPLIED)], worker="other")
        webhooks.finish_webhooks(connection, [late], worker="frozen")
    kept = "SELECT outcome FROM marketplace_webhooks WHERE attempts = 1 AND next_attempt_at IS NULL"
    assert value(shop, kept) == "applied"
