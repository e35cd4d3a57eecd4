"""What the documentation and the code say of the same thing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.gateway.webhooks import MOST_ATTEMPTS, RETRY_SECONDS, Webhook, retry_or_quarantine

NOW = datetime(2026, 1, 1, 12, 1, tzinfo=UTC)


def test_the_documented_retries_of_a_webhook_are_those_that_are_made() -> None:
    waits = []
    for attempts in range(MOST_ATTEMPTS):
        tried = retry_or_quarantine(Webhook(1, "m", "order.created", None, "", NOW, attempts), "It failed.")
        waits.append(tried.wait_seconds)
    assert tried.outcome is webhooks.WebhookOutcome.QUARANTINED
    assert sum(waits) == RETRY_SECONDS
    page = " ".join((Path(__file__).parents[2] / "docs" / "gateway.md").read_text().split())
    assert f"failed {MOST_ATTEMPTS} times within {RETRY_SECONDS // 60} minutes" in page
