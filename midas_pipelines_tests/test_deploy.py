"""What is deployed hangs together: services, settings, volumes and commands that are named exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from midas_pipelines.cli import COMMANDS
from midas_pipelines.settings import Settings

DEPLOY = Path(__file__).parents[1] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())
VALUES = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
GATEWAY = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "gateway.yaml").read_text()))
KNOWN = {name.upper() for name in Settings.model_fields if name.startswith("fourseller_")} | {
    f"MIDAS_{name.upper()}" for name in Settings.model_fields
}


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_what_a_service_needs_is_there(name: str) -> None:
    service = COMPOSE["services"][name]
    assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
    assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        exists = (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        assert exists, volume


def test_only_the_proxy_is_reached_from_outside() -> None:
    open_to_all = [name for name, service in COMPOSE["services"].items() if "ports" in service]
    assert open_to_all == ["proxy"]
    assert "basic_auth" in (DEPLOY / "Caddyfile").read_text()


def test_every_setting_that_is_named_exists() -> None:
    named = {
        name
        for service in COMPOSE["services"].values()
        for name in service.get("environment", {})
        if name.startswith("MIDAS_") and name not in ("MIDAS_HOST",)
    }
    assert named <= KNOWN


def test_every_command_that_is_run_exists() -> None:
    text = "\n".join(path.read_text() for path in DEPLOY.rglob("*.yaml"))
    commands = set(re.findall(r'"midas", "([a-z-]+)"', text)) | set(
        re.findall(r"&& (?:exec )?midas ([a-z-]+)", text)
    )
    assert commands <= set(COMMANDS)


def test_variables_without_a_default_are_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "docker-compose.yaml").read_text()))
    given = {line.partition("=")[0] for line in (DEPLOY / "env.example").read_text().splitlines()}
    assert asked <= given


def test_kubernetes_runs_each_run_as_a_job_with_the_same_code_and_secrets() -> None:
    assert VALUES["runLauncher"]["type"] == "K8sRunLauncher"
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    assert deployment["codeServerArgs"] == ["-m", "midas_pipelines.definitions"]
    assert deployment["includeConfigInLaunchedRuns"] == {"enabled": True}
    assert VALUES["ingress"]["dagsterWebserver"]["tls"]["enabled"] is True
    assert any("auth-url" in name for name in VALUES["ingress"]["annotations"])


@pytest.mark.parametrize("part", GATEWAY, ids=lambda part: part["kind"])
def test_kubernetes_knows_what_is_asked_of_it(part: dict[str, Any]) -> None:
    for version in ("1.31", "1.37"):
        kubernetes_validate.validate(part, version, strict=True)


def test_the_gateway_is_routed_to_its_own_pods() -> None:
    by_kind: dict[str, Any] = {part["kind"]: part for part in GATEWAY}
    labels = by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert by_kind["Service"]["spec"]["selector"] == labels
    (rule,) = by_kind["Ingress"]["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == by_kind["Service"]["metadata"]["name"]
