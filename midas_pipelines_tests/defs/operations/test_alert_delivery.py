"""Alerts that no other run has sent are sent by one run at a time."""

from __future__ import annotations

import dagster as dg
import pytest

from midas_pipelines.definitions import defs
from midas_pipelines.defs.operations.op_jobs import alerts_due
from midas_pipelines_tests.defs.conftest import Execute, metadata, tick
from midas_pipelines_tests.notify.conftest import WebhookReceiver, webhook  # noqa: F401 - fixture
from midas_pipelines_tests.shop import run
from midas_pipelines_tests.sync.world import World

ALERT = "INSERT INTO alerts (kind, subject, text) VALUES ('brake', 'x', 'Text.')"


def test_a_delivery_is_asked_for_only_when_an_alert_is_due(
    environment: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "MIDAS_NOTIFY_URLS" in str(tick(alerts_due, instance).skip_message)
    monkeypatch.setenv("MIDAS_NOTIFY_URLS", "json://127.0.0.1:1/dead")
    assert tick(alerts_due, instance).skip_message == "No alert is due."
    run(environment.database, ALERT)
    asked = tick(alerts_due, instance).run_requests or []
    assert [request.job_name for request in asked] == ["alert_delivery"]


def test_a_delivery_under_way_is_not_joined_by_another(
    environment: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDAS_NOTIFY_URLS", "json://127.0.0.1:1/dead")
    run(environment.database, ALERT)
    instance.create_run_for_job(defs.resolve_job_def("alert_delivery"), status=dg.DagsterRunStatus.STARTED)
    found = tick(alerts_due, instance)
    assert not found.run_requests
    assert found.skip_message == "A run of alert_delivery is in progress; the next tick looks again."


def test_its_run_sends_what_is_due(
    environment: World,
    execute: Execute,
    webhook: WebhookReceiver,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIDAS_NOTIFY_URLS", webhook.url)
    run(environment.database, ALERT)
    assert metadata(execute("alert_delivery"), "deliver_alerts")["sent"] == 1
