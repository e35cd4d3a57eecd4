"""A worker whose claim has passed to another writes nothing."""

from __future__ import annotations

from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.gateway.webhooks import FinishedWebhook, NewWebhook, WebhookOutcome
from midas_pipelines_tests.shop import run, value


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


def test_a_lease_holds_until_its_end_and_no_longer(shop: Database) -> None:
    def claimed(worker: str) -> int:
        with shop.writing() as connection:
            return len(webhooks.claim(connection, worker=worker, lease_seconds=60, limit=9, orders=True))

    with shop.writing() as connection:
        webhooks.store_webhooks(
            connection,
            [
                NewWebhook("m", "order.created", "order:1", "plain:{}"),
                NewWebhook("n", "order.created", None, "plain:{}"),
            ],
        )
    assert [claimed("killed"), claimed("other")] == [2, 0]
    run(shop, "UPDATE marketplace_webhooks SET claimed_until = '2020-01-01 00:00:00.000000+00:00'")
    assert [claimed("other"), claimed("third")] == [2, 0]
