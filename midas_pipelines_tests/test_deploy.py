"""What is deployed hangs together: services, settings, volumes and commands that are named exist."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from midas_pipelines.cli import COMMANDS
from midas_pipelines.settings import VARIABLES, load_settings

DEPLOY = Path(__file__).parents[1] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())
VALUES = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
NETWORK = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "network.yaml").read_text()))
INGRESS = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "ingress.yaml").read_text()))
GATEWAY = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "gateway.yaml").read_text()))


KNOWN = set(VARIABLES.values())
READ_SETTINGS = ["code", "gateway", "prepare", "step-worker"]
"""The services that read settings: runs are processes of `code`, which gives them its own."""
SETTINGS = yaml.safe_load((DEPLOY / "kubernetes" / "settings.yaml").read_text())
REQUIRED = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "docker-compose.yaml").read_text()))
NO_SECRETS = {"FOURSELLER_SELLER_ID", "MIDAS_HOST", "OIDC_ISSUER", "OIDC_CLIENT_ID"}
DECIDED = {"MIDAS_DAGSTER_POSTGRES_URL", "DAGSTER_HOME"}
"""What compose decides everywhere: where the containers find each other."""
QUEUE = {"MIDAS_CELERY_BROKER", "MIDAS_CELERY_BACKEND"}
"""Dagster's own: its daemon hands runs to the workers there, and its webserver stops them."""
DECIDED_FOR = {
    "gateway": {
        "MIDAS_GATEWAY_HOST",
        "MIDAS_GATEWAY_PORT",
        "MIDAS_GATEWAY_PROXIES",
        "MIDAS_DAGSTER_URL",
    },
    "step-worker": {"MIDAS_EXECUTOR"},
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
    caddy = (DEPLOY / "Caddyfile").read_text()
    before, signed_in = caddy.split("forward_auth sign-in:4180")
    assert "webserver:" not in before
    assert "viewer:" not in before
    assert "-X-Auth-Request-Groups" in before  # what a caller claims of itself does not count
    assert signed_in.index("@operators webserver:3000") < signed_in.index("reverse_proxy viewer:3000")
    assert "--read-only" in COMPOSE["services"]["viewer"]["command"]


def test_the_gateway_believes_the_proxy_about_who_calls() -> None:
    services = COMPOSE["services"]
    address = services["proxy"]["networks"]["inside"]["ipv4_address"]
    assert services["gateway"]["environment"]["MIDAS_GATEWAY_PROXIES"] == address
    assert "MIDAS_GATEWAY_PROXIES" in SETTINGS["data"]


@pytest.mark.parametrize("name", READ_SETTINGS)
def test_what_is_written_in_the_env_file_reaches_who_reads_settings(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["env_file"] == ".env"
    passed_on = {key for key, value in service["environment"].items() if f"${{{key}:" in str(value)}
    assert set(service["environment"]) & KNOWN - passed_on == DECIDED | DECIDED_FOR.get(name, set())


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_compose_itself_hands_over_each_setting(tmp_path: Path) -> None:
    given = {key: f"probe-{key}" for key in KNOWN}
    needed = dict.fromkeys(REQUIRED - KNOWN, "x")
    text = "".join(f"{key}={value}\n" for key, value in sorted((given | needed).items()))
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns(".env"))
    (tmp_path / "deploy" / ".env").write_text(text)
    without_name = {
        key: value for key, value in COMPOSE.items() if key != "name"
    }  # unknown to the first Compose
    (tmp_path / "deploy" / "docker-compose.yaml").write_text(yaml.safe_dump(without_name))
    command = ["docker-compose", "--env-file", ".env", "-f", "docker-compose.yaml", "--profile", "celery"]
    ran = subprocess.run([*command, "config"], cwd=tmp_path / "deploy", capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    services = yaml.safe_load(ran.stdout)["services"]
    for name in READ_SETTINGS:
        expected = {key: given[key] for key in KNOWN - DECIDED - DECIDED_FOR.get(name, set())}
        assert expected.items() <= services[name]["environment"].items()
        assert not services[name]["environment"]["OIDC_CLIENT_SECRET"]


@pytest.mark.parametrize("name", sorted(set(COMPOSE["services"]) - set(READ_SETTINGS)))
def test_who_reads_no_settings_is_given_no_secret_of_the_shop(name: str) -> None:
    service = COMPOSE["services"][name]
    assert "env_file" not in service
    assert not set(service.get("environment", {})) & KNOWN - DECIDED - QUEUE


@pytest.mark.parametrize("name", sorted(set(COMPOSE["services"]) - {"prepare"}))
def test_a_service_that_ends_is_started_again(name: str) -> None:
    assert COMPOSE["services"][name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_who_waits_for_a_healthy_service_is_told_when_it_is(name: str) -> None:
    for other, how in COMPOSE["services"][name].get("depends_on", {}).items():
        healthy = "healthcheck" in COMPOSE["services"][other]
        assert healthy == (how["condition"] == "service_healthy"), other


def test_no_secret_has_a_default() -> None:
    text = (DEPLOY / "docker-compose.yaml").read_text()
    named = set(re.findall(r"\$\{(\w*(?:PASSWORD|KEY|SECRET|DATABASE_URL)\w*)", text))
    assert named == {name for name in REQUIRED if name not in NO_SECRETS}


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
    given = {line.partition("=")[0] for line in (DEPLOY / "env.example").read_text().splitlines()}
    assert given >= REQUIRED


def test_kubernetes_runs_each_run_as_a_job_with_the_same_code_and_secrets() -> None:
    assert VALUES["runLauncher"]["type"] == "K8sRunLauncher"
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    assert deployment["codeServerArgs"] == ["-m", "midas_pipelines.definitions"]
    assert deployment["envConfigMaps"] == [{"name": SETTINGS["metadata"]["name"]}]
    assert "env" not in deployment
    assert deployment["includeConfigInLaunchedRuns"] == {"enabled": True}
    assert VALUES["ingress"] == {"enabled": False}  # ours asks for a sign-in


@pytest.mark.parametrize(
    ("number", "server", "role"), [(0, "", "?allowed_groups=midas-operators"), (1, "-read-only", "")]
)
def test_only_operators_reach_the_webserver_that_launches_runs(number: int, server: str, role: str) -> None:
    part = INGRESS[number]
    (rule,) = part["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"]["name"] == f"midas-dagster-webserver{server}"
    assert part["spec"]["tls"][0]["hosts"] == [rule["host"]]
    asked = part["metadata"]["annotations"]["nginx.ingress.kubernetes.io/auth-url"]
    assert asked == f"https://oauth2.example.com/oauth2/auth{role}"


def test_kubernetes_is_told_each_setting_once() -> None:
    assert set(SETTINGS["data"]) <= KNOWN
    load_settings(
        **{
            name: SETTINGS["data"][variable]
            for name, variable in VARIABLES.items()
            if variable in SETTINGS["data"]
        }
    )
    longest = int(SETTINGS["data"]["MIDAS_LONGEST_RUN_MINUTES"]) * 60
    assert VALUES["dagsterDaemon"]["runMonitoring"]["maxRuntimeSeconds"] == longest
    pod = GATEWAY[0]["spec"]["template"]["spec"]
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["envFrom"] == [
            {"configMapRef": {"name": "midas-settings"}},
            {"secretRef": {"name": "midas"}},
        ]
        assert not {one["name"] for one in container.get("env", [])} & set(SETTINGS["data"])


def test_kubernetes_keeps_dagster_as_the_other_deployments_do() -> None:
    ours = yaml.safe_load((DEPLOY.parent / "dagster.yaml").read_text())
    monitoring, retries = VALUES["dagsterDaemon"]["runMonitoring"], VALUES["dagsterDaemon"]["runRetries"]
    assert (
        monitoring["freeSlotsAfterRunEndSeconds"]
        == ours["run_monitoring"]["free_slots_after_run_end_seconds"]
    )
    assert retries["retryOnAssetOrOpFailure"] == ours["run_retries"]["retry_on_asset_or_op_failure"]
    assert retries["maxRetries"] == ours["run_retries"]["max_retries"]
    assert VALUES["concurrency"]["pools"]["defaultLimit"] == ours["concurrency"]["pools"]["default_limit"]
    assert VALUES["concurrency"]["pools"]["granularity"] == ours["concurrency"]["pools"]["granularity"]
    assert VALUES["additionalInstanceConfig"]["freshness"] == ours["freshness"]


def test_kubernetes_knows_what_is_asked_of_it() -> None:
    import kubernetes_validate  # takes longer to load than most tests to run

    for part in (*GATEWAY, SETTINGS, *NETWORK, *INGRESS):
        for version in ("1.31", "1.37"):
            kubernetes_validate.validate(part, version, strict=True)  # its error says what is wrong where


def test_the_gateway_is_routed_to_its_own_pods() -> None:
    by_kind: dict[str, Any] = {part["kind"]: part for part in GATEWAY}
    labels = by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert by_kind["Service"]["spec"]["selector"] == labels
    (rule,) = by_kind["Ingress"]["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == by_kind["Service"]["metadata"]["name"]


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_no_container_may_become_root_write_to_its_image_or_take_all_memory(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["mem_limit"]
    assert set(service.get("cap_add", [])) <= {"NET_BIND_SERVICE"}
    assert re.search(r"^USER 10001$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


def test_the_queue_asks_for_a_password_and_the_code_server_is_on_no_network() -> None:
    queue, code = COMPOSE["services"]["queue"], COMPOSE["services"]["code"]
    assert "requirepass" in queue["command"][-1]
    assert "QUEUE_PASSWORD:?" in code["environment"]["MIDAS_CELERY_BROKER"]
    assert "0.0.0.0" not in str(code["command"])
    socket = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]["socket"]
    assert socket in code["command"][-1]
    sharing = {name for name, one in COMPOSE["services"].items() if "code_socket" in str(one.get("volumes"))}
    assert sharing == {"code", "viewer", "webserver", "daemon"}


def test_kubernetes_lets_no_pod_do_more_than_it_must() -> None:
    pod = GATEWAY[0]["spec"]["template"]["spec"]
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    runs = VALUES["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    parts = [VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], code]
    pods = [pod["securityContext"], runs["podSpecConfig"]["securityContext"]]
    pods += [part["podSecurityContext"] for part in parts]
    containers = [*pod["containers"], *pod["initContainers"], runs["containerConfig"], *parts]
    assert all(one["runAsNonRoot"] and one["runAsUser"] == 10001 for one in pods)
    for one in containers:
        assert one["resources"]["limits"]["memory"]
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    closed, code_only = NETWORK[:2]
    assert (closed["spec"]["podSelector"], "ingress" in closed["spec"]) == ({}, False)
    assert code_only["spec"]["podSelector"]["matchLabels"] == {"component": "user-deployments"}
    assert VALUES["dagsterWebserver"]["enableReadOnly"] is True


def test_what_runs_work_is_seen_to_be_dead() -> None:
    for name in ("gateway", "step-worker", "daemon", "code"):
        assert COMPOSE["services"][name]["healthcheck"]["test"]
    (gateway,) = GATEWAY[0]["spec"]["template"]["spec"]["containers"]
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"


SAFE = {"name": "a", "version": "1", "vulns": []}
FAULTY = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1"}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("found", "says", "failed"),
    [
        ([UNKNOWN, UNKNOWN], ["NOT AUDITED: the index knows none of the 2 locked packages."], 0),
        ([], ["NOT AUDITED: the index knows none of the 0 locked packages."], 0),
        ([SAFE], ["1 packages audited, 0 known faults."], 0),
        (
            [SAFE, FAULTY, UNKNOWN],
            [
                "b 2 has the known fault PYSEC-1: renew it with `make lock`.",
                "2 packages audited, 1 known faults.",
                "NOT AUDITED, for the index does not know them: c.",
            ],
            1,
        ),
    ],
)
def test_what_no_index_knows_does_not_count_as_audited(
    found: list[dict[str, Any]], says: list[str], failed: int
) -> None:
    path = DEPLOY.parent / "scripts" / "supply_chain.py"
    assert runpy.run_path(str(path))["judged"](found) == (says, failed)
