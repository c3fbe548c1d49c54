"""The files of the deployment agree with the settings, the queues and each other."""

import os
import re
import subprocess
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from shared.settings import Settings
from workers import contract

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKERS = {
    name: service for name, service in SERVICES.items() if "worker" in service.get("command", [])
}
SECRETS = {"REDIS_PASSWORD": "r", "POSTGRES_PASSWORD": "p", "FLOWER_BASIC_AUTH": "u:p"}

# These names are promised to operators and must not disappear.
CONTRACT = {
    "TOWLINE_BROKER_URL",
    "TOWLINE_RESULT_URL",
    "TOWLINE_DATABASE_URL",
    "TOWLINE_HOME",
    "TOWLINE_VOLUME",
    "TOWLINE_DEFAULT_PLATFORM",
    "TOWLINE_REGISTRIES_FILE",
    "TOWLINE_ALLOWED_REGISTRIES",
    "TOWLINE_BLOCKED_REGISTRIES",
    "TOWLINE_CONNECT_TIMEOUT_SECONDS",
    "TOWLINE_STALL_TIMEOUT_SECONDS",
    "TOWLINE_ATTEMPTS",
    "TOWLINE_LAYER_CONNECTIONS",
    "TOWLINE_CHUNK_BYTES",
    "TOWLINE_REGISTRY_CONNECTIONS",
    "TOWLINE_BANDWIDTH_BYTES_PER_SECOND",
    "TOWLINE_LEASE_SECONDS",
    "TOWLINE_ANSWER_SECONDS",
    "TOWLINE_VERIFY_DIFF_IDS",
    "TOWLINE_MINIMUM_FREE_BYTES",
    "TOWLINE_LOG_FORMAT",
}


def example() -> dict[str, str]:
    """The assignments of deploy/env.example, including those in comments (the defaults)."""
    text = (ROOT / "deploy" / "env.example").read_text()
    return dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", text, re.MULTILINE))


def settings_variables() -> set[str]:
    return {f"TOWLINE_{name}".upper() for name in Settings.model_fields}


def option(service: dict[str, Any], flag: str) -> str:
    command = service["command"]
    return str(command[command.index(flag) + 1])


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def compose_config(
    client: dict[str, str], tmp_path: Path, **variables: str
) -> CompletedProcess[str]:
    # Without this, the operator's `.env` would supply what the test leaves out.
    (tmp_path / "empty.env").touch()
    return subprocess.run(
        ["docker", "compose", "--env-file", str(tmp_path / "empty.env"), "config", "-q"],
        cwd=ROOT,
        env=client | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def client() -> dict[str, str]:
    """The environment of a Docker client with its compose plugin; `config` needs no daemon.

    Copied before the test suite cleans the environment for each test: DOCKER_CONFIG may contain
    the plugin.
    """
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    try:
        version = ["docker", "compose", "version"]
        subprocess.run(version, check=True, capture_output=True, env=environment)
    except (OSError, subprocess.CalledProcessError):
        reason = "the docker client with its compose plugin is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return environment


def test_the_settings_class_has_every_promised_name() -> None:
    assert settings_variables() >= CONTRACT


def test_the_example_lists_every_setting_and_nothing_else() -> None:
    listed = {name for name in example() if name.startswith("TOWLINE_")}
    assert listed == settings_variables()


def test_the_example_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings_variables():
        monkeypatch.delenv(name, raising=False)
    defaults = Settings.read()
    for name, value in example().items():
        monkeypatch.setenv(name, value)
    assert Settings.read() == defaults


def test_the_example_shows_a_value_for_every_default_that_has_one() -> None:
    written = {name for name, value in example().items() if value}
    with_value = {
        f"TOWLINE_{name}".upper()
        for name, field in Settings.model_fields.items()
        if field.default_factory is None and field.default not in {None, ""}
    }
    assert with_value <= written


def test_the_example_contains_no_secret() -> None:
    assert {name: example()[name] for name in SECRETS} == dict.fromkeys(SECRETS, "")


@pytest.mark.parametrize("name", ["migrate", "pulls", "layers", "flower"])
def test_every_setting_is_passed_to_every_role(name: str) -> None:
    passed = SERVICES[name]["environment"]
    assert set(passed) >= settings_variables()
    fixed = {"TOWLINE_BROKER_URL", "TOWLINE_DATABASE_URL", "TOWLINE_HOME", "TOWLINE_VOLUME"}
    for variable in settings_variables() - fixed:
        # Empty means the default of the settings class; a second default here could differ.
        assert passed[variable] == f"${{{variable}:-}}"


def test_no_port_is_open_to_other_hosts() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["flower"]
    assert all(port.startswith("127.0.0.1:") for port in published["flower"])
    assert all("network_mode" not in service for service in SERVICES.values())


def test_the_stores_are_on_an_internal_network() -> None:
    assert SERVICES["redis"]["networks"] == SERVICES["postgres"]["networks"] == ["stores"]
    assert COMPOSE["networks"]["stores"]["internal"] is True


def test_the_workers_together_consume_every_queue() -> None:
    consumed = ",".join(option(service, "-Q") for service in WORKERS.values())
    assert sorted(consumed.split(",")) == sorted(contract.QUEUES)
    assert option(SERVICES["layers"], "-Q") == contract.LAYERS


def test_every_worker_waits_for_the_migration() -> None:
    assert set(WORKERS) == {"pulls", "layers"}
    for service in WORKERS.values():
        assert service["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert SERVICES["migrate"]["command"] == ["towline", "migrate"]
    assert SERVICES["migrate"]["restart"] == "no"


def test_workers_can_be_scaled() -> None:
    for name, service in WORKERS.items():
        assert "container_name" not in service
        assert option(service, "-n") == f"{name}@%h"


def test_every_worker_mounts_the_same_volume() -> None:
    for name in ("migrate", *WORKERS):
        assert SERVICES[name]["volumes"] == ["volume:/var/lib/towline"]
        assert SERVICES[name]["environment"]["TOWLINE_VOLUME"] == "/var/lib/towline"


def test_layers_in_flight_are_given_back_before_docker_kills_the_worker() -> None:
    layers = SERVICES["layers"]
    # Without an init, PID 1 ignores signals until Celery has installed its handlers.
    assert layers["init"] is True
    # SIGTERM keeps its meaning: workers/process/grace_time.py stops downloads after the grace time,
    # in every pool.
    assert "REMAP_SIGTERM" not in layers["environment"]
    # Stopping the pool and giving messages back took less than 4 s when it was measured.
    assert seconds(layers["stop_grace_period"]) >= Settings().grace_seconds + 15


def test_every_service_that_keeps_running_has_a_health_check() -> None:
    assert [name for name in SERVICES if "healthcheck" not in SERVICES[name]] == ["migrate"]


@pytest.mark.parametrize("name", ["pulls", "layers", "reconcile"])
def test_a_health_check_reads_the_file_that_the_process_touches(name: str) -> None:
    service = SERVICES[name]
    assert option(service, "--alive") == "/tmp/alive"
    (_, check) = service["healthcheck"]["test"]
    assert check == 'test -n "$$(find /tmp/alive -mmin -1)"'
    # The root file system is read-only.
    assert "/tmp" in service["tmpfs"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_unneeded_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert "privileged" not in service


def test_redis_persists_messages_and_never_evicts_them() -> None:
    text = (ROOT / "deploy" / "redis.conf").read_text()
    directives = dict(re.findall(r"^(\S+) (.+)$", text, re.MULTILINE))
    assert directives["appendonly"] == "yes"
    assert directives["appendfsync"] == "everysec"
    assert directives["maxmemory-policy"] == "noeviction"
    assert directives["protected-mode"] == "yes"


def test_the_image_does_not_run_as_root_and_has_no_entrypoint() -> None:
    final = (ROOT / "deploy" / "Dockerfile").read_text().split("\nFROM ")[-1]
    instructions = dict(re.findall(r"^([A-Z]+) (.+)$", final, re.MULTILINE))
    assert instructions["USER"] == "10001:10001"
    assert instructions["ENTRYPOINT"] == "[]"


def test_the_build_context_contains_only_what_the_build_needs() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if not line.startswith("#")) == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert allowed == {"pyproject.toml", "README.md", "LICENSE", "shared", "workers"}


def test_docker_accepts_the_compose_file(client: dict[str, str], tmp_path: Path) -> None:
    result = compose_config(client, tmp_path, **SECRETS)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("missing", SECRETS)
def test_the_fleet_refuses_to_start_without_its_passwords(
    client: dict[str, str], tmp_path: Path, missing: str
) -> None:
    result = compose_config(client, tmp_path, **SECRETS | {missing: ""})
    assert result.returncode != 0
    assert f"required variable {missing} is missing a value" in result.stderr


# Messages of other programs: Compose, Docker, Redis and PostgreSQL.
OF_OTHERS = {
    "required variable",
    "is missing a value",
    'service "migrate" didn\'t complete successfully',
    "password authentication failed",
    "OOM command not allowed",
    "Memory overcommit must be enabled",
    "unhealthy",
}


def test_the_table_of_common_failures_quotes_real_messages() -> None:
    files = [path for room in ("shared", "workers") for path in (ROOT / room).rglob("*.py")]
    # A Python string may continue on the next line.
    printed = re.sub(r'"\n\s*f?"', "", "\n".join(path.read_text() for path in files))
    printed = printed.replace("`", "")
    table = (ROOT / "deploy/README.md").read_text().partition("## Common failures")[2]
    seen = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")][1:]
    quoted = [
        piece for cell in seen for span in re.findall("`([^`]+)`", cell) for piece in split(span)
    ]
    assert len(quoted) > 12
    assert [piece for piece in quoted if piece not in printed and piece not in OF_OTHERS] == []


def split(quoted: str) -> list[str]:
    """The fixed parts of a quoted message, without what differs each time."""
    pieces = re.split(r"…|TOWLINE_\w+", quoted)
    return [piece.strip(" ().") for piece in pieces if piece.strip(" ().")]
