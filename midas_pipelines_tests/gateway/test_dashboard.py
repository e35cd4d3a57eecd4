"""The Grafana dashboard asks for nothing that the gateway does not measure."""

from __future__ import annotations

import json
import re
from pathlib import Path

from midas_pipelines.gateway.metrics import Metrics
from midas_pipelines.store.database import Database

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "midas-gateway.json"


def test_every_metric_on_the_dashboard_is_measured(shop: Database) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {
        re.sub(r"_(bucket|total)$", "", name)
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"midas_\w+", target["expr"])
    }
    measured = {family.name for family in Metrics(shop).registry.collect()}
    assert asked <= measured
    assert asked
