"""The command line: what it prints, to which stream, and its exit status."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.fleet import Fleet
from tests.builders.grown_catalog import TAG, Size, grow
from tests.fakes.faults import Stall
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.secrecy import secret
from tests.support.waiting import wait_until

SECRET = secret("login")
LAYER = os.urandom(2_000_000)


@pytest.fixture
def served(fleet: Fleet, registry: FakeRegistry) -> Iterator[Fleet]:
    """A fleet with a worker, and an image to pull."""
    registry.put_image("team/app", "1", [LAYER, b"small"])
    fleet.start_worker()
    return fleet


def items(result: subprocess.CompletedProcess[str]) -> Any:
    printed = json.loads(result.stdout)
    assert printed["format_version"] == "1.0"
    return printed["items"]


def test_pull_prints_a_summary_and_other_commands_show_the_image(
    served: Fleet, registry: FakeRegistry
) -> None:
    name = f"{registry.host}/team/app:1"
    pulled = served.towline("pull", name, "--platform", "linux/amd64")
    assert pulled.returncode == 0, pulled.stderr
    assert f"✓ {name} linux/amd64 sha256:" in pulled.stdout
    assert "2 layers" in pulled.stdout

    assert name in served.towline("ls").stdout
    (inspected,) = items(served.towline("inspect", name, "--json"))
    assert [layer["digest"] for layer in inspected["layers"]] == [
        digest_of(LAYER),
        digest_of(b"small"),
    ]
    assert (served.volume / inspected["layers"][0]["path"]).read_bytes() == LAYER
    (pull,) = items(served.towline("status", "--json"))
    assert pull["state"] == "complete"
    shown = served.towline("status", pull["id"])
    assert digest_of(LAYER) in shown.stdout


def test_quiet_prints_only_the_result(served: Fleet, registry: FakeRegistry) -> None:
    name = f"{registry.host}/team/app:1"
    pulled = served.towline("pull", "--quiet", name, "--platform", "linux/amd64")
    assert (pulled.returncode, pulled.stderr) == (0, "")
    assert pulled.stdout.startswith(f"✓ {name} linux/amd64 sha256:")
    assert pulled.stdout.count("\n") == 1


def test_json_lists_the_pulls_as_requested_and_the_highest_exit_status_wins(
    served: Fleet, registry: FakeRegistry
) -> None:
    names = [f"{registry.host}/team/app:{tag}" for tag in ("none", "1")]
    result = served.towline("pull", "--json", "--platform", "linux/amd64", *names)
    assert result.returncode == 1
    failed, complete = items(result)
    assert (failed["state"], failed["error_class"]) == ("failed", "ManifestUnknown")
    assert failed["error_code"] == "MANIFEST_UNKNOWN"
    assert complete["state"] == "complete"
    assert complete["receipt"]["bytes_fetched"] == len(LAYER) + 5


GROWN = Size(pulls=600, images=600)
LAST = "registry.example/team99/app99:1"


def test_lists_show_a_page_and_say_how_many_more_there_are(fleet: Fleet) -> None:
    grow(fleet.database_url, GROWN)
    lines = fleet.towline("ls").stdout.splitlines()
    assert (len(lines), lines[-1]) == (102, "… and 500 more: `--limit 0` lists all of them.")
    for command in (["status"], ["history", TAG]):
        page = fleet.towline(*command, "--json", "--limit", "7")
        assert len(items(page)) == 7
        assert "more: `--limit 0`" in page.stderr
    everything = fleet.towline("ls", "--limit", "0", "--json")
    assert (len(items(everything)), everything.stderr) == (600, "")
    # The last image by name, which is on none of the pages above.
    (inspected,) = items(fleet.towline("inspect", LAST, "--json"))
    assert (inspected["reference"], len(inspected["layers"])) == (LAST, 5)


def test_inspect_finds_an_image_by_its_digest_whatever_its_tag(fleet: Fleet) -> None:
    grow(fleet.database_url, GROWN)
    (inspected,) = items(fleet.towline("inspect", LAST, "--json"))
    repository, _, _ = LAST.rpartition(":")
    digest = inspected["manifest_digest"]
    for name in (
        f"{LAST}@{digest}",
        f"{repository}@{digest}",
    ):
        assert items(fleet.towline("inspect", name, "--json")) == [inspected]
    for name in (
        f"{LAST}@{digest_of(b'other')}",
        f"registry.example/x:1@{digest}",
    ):
        missing = fleet.towline("inspect", name)
        assert (missing.returncode, missing.stdout) == (2, "")
        assert f"{name} is not on the volume" in missing.stderr


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_an_id_of_bytes_that_are_not_text_is_an_unknown_pull(fleet: Fleet, command: str) -> None:
    result = fleet.towline(command, os.fsdecode(b"\xff\xfe"))
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert result.stderr.startswith("towline: There is no pull ")


def test_detach_prints_the_id_of_a_pull_that_continues(
    served: Fleet, registry: FakeRegistry
) -> None:
    options = ("--platform", "linux/amd64", "--priority", "9", "--label", "a=b")
    result = served.towline("pull", "--detach", *options, f"{registry.host}/team/app:1")
    assert result.returncode == 0

    def state() -> str:
        shown = served.towline("status", result.stdout.strip(), "--json")
        return str(json.loads(shown.stdout)["state"])

    wait_until(lambda: state() == "complete", timeout=30)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["pull", "UPPER"], 2, "is not an image reference"),
        (["pull", "alpine", "--platform", "////"], 2, "is not a platform"),
        (["pull", "alpine", "--priority", "10"], 2, "0<=x<=9"),
        (["pull", "alpine", "--label", "x"], 2, "KEY=VALUE"),
        (["pull"], 2, "Missing argument"),
        (["status", "nothing"], 2, "There is no pull nothing"),
        (["inspect", "alpine"], 2, "docker.io/library/alpine:latest is not on the volume"),
        (["nonsense"], 2, "No such command"),
    ],
    ids=str,
)
def test_wrong_usage_ends_with_2_and_one_sentence(
    fleet: Fleet, arguments: list[str], status: int, sentence: str
) -> None:
    result = fleet.towline(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "status", "sentence"),
    [
        ("TOWLINE_DATABASE_URL", "", 2, "TOWLINE_DATABASE_URL is not set"),
        ("TOWLINE_BROKER_URL", "", 2, "TOWLINE_BROKER_URL is not set"),
        ("TOWLINE_DATABASE_URL", f"mysql://u:{SECRET}@h/d", 2, "must begin with postgresql://"),
        ("TOWLINE_ATTEMPTS", SECRET, 2, "TOWLINE_ATTEMPTS cannot be used"),
        ("TOWLINE_DATABASE_URL", f"postgresql://u:{SECRET}@h:x/d", 2, "port is not a number"),
        ("TOWLINE_DATABASE_URL", f"postgresql://u:{SECRET}@h/d?schema=t", 2, "remove schema"),
        ("TOWLINE_BROKER_URL", f"valkey://:{SECRET}@h", 2, "must begin with redis://"),
        ("TOWLINE_BROKER_URL", f"redis://:12#{SECRET}@h/0", 2, "TOWLINE_BROKER_URL cannot be used"),
        ("TOWLINE_BROKER_URL", f"sentinel://:{SECRET}@h/0", 2, "does not work yet"),
        ("TOWLINE_RESULT_URL", f"nothing://:{SECRET}@h", 2, "TOWLINE_RESULT_URL cannot be used"),
        ("TOWLINE_DATABASE_URL", f"postgresql://u:{SECRET}@127.0.0.1:PORT/d", 3, "The database at"),
        ("TOWLINE_BROKER_URL", f"redis://:{SECRET}@127.0.0.1:PORT/0", 3, "The queue cannot be"),
    ],
)
def test_settings_and_outages_end_with_one_sentence_without_a_secret(
    fleet: Fleet, variable: str, value: str, status: int, sentence: str
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        value = value.replace("PORT", str(unused.getsockname()[1]))
        result = fleet.towline("pull", "alpine", TOWLINE_LEASE_SECONDS="0.1", **{variable: value})
    assert (result.returncode, result.stdout) == (status, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stderr


PROCESSES = [
    ["workers.cli", "status"],
    ["workers.cli", "doctor"],
    ["workers.cli", "migrate"],
    ["workers.cli", "worker", "-P", "solo"],
    ["workers.cli", "reconcile"],
    ["celery", "-A", "workers.app", "worker", "-P", "solo"],
    ["celery", "-A", "workers.app", "flower"],
]


@pytest.mark.parametrize("process", PROCESSES, ids=" ".join)
def test_every_process_refuses_an_unusable_setting_with_one_sentence(
    fleet: Fleet, process: list[str]
) -> None:
    url = f"redis://:12#{SECRET}@h/0"
    result = subprocess.run(
        [sys.executable, "-m", *process],
        env=fleet.environment | {"TOWLINE_BROKER_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert "TOWLINE_BROKER_URL cannot be used" in result.stderr
    assert result.stderr.count("\n") == 1
    assert SECRET not in result.stderr


@pytest.mark.parametrize("command", ["status", "up"])
def test_a_home_that_cannot_be_created_is_reported_in_one_sentence(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    result = subprocess.run(
        [sys.executable, "-m", "workers.cli", command],
        env=os.environ | {"TOWLINE_HOME": str(tmp_path / "file" / "below")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("towline: TOWLINE_HOME cannot be used: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("wrong:SECRET@HOST/NAME", "authentication failed"),
        ("USER@HOST/nothing", 'database "nothing" does not exist'),
    ],
)
def test_the_answer_of_postgresql_to_a_wrong_login_is_shown(
    fleet: Fleet, url: str, sentence: str
) -> None:
    user, _, rest = fleet.database_url.removeprefix("postgresql://").partition("@")
    host, _, name = rest.partition("/")
    for word, value in {"SECRET": SECRET, "USER": user, "HOST": host, "NAME": name}.items():
        url = url.replace(word, value)
    where = {"TOWLINE_DATABASE_URL": f"postgresql://{url}", "TOWLINE_LEASE_SECONDS": "0.1"}
    result = fleet.towline("status", **where)
    assert (result.returncode, result.stdout) == (3, "")
    waiting, gave_up = result.stderr.splitlines()
    assert waiting.endswith("Waiting up to 0.1 s.")
    assert sentence in waiting
    assert sentence in gave_up
    assert SECRET not in result.stderr


def test_a_missing_right_in_the_database_is_reported_in_one_sentence(fleet: Fleet) -> None:
    guest = f"guest_{os.getpid()}"
    _, _, where = fleet.database_url.partition("@")
    with psycopg.connect(fleet.database_url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {guest} LOGIN PASSWORD 'guest'".encode())
        try:
            url = f"postgresql://{guest}:guest@{where}"
            result = fleet.towline("status", TOWLINE_DATABASE_URL=url)
        finally:
            owner.execute(f"DROP ROLE {guest}".encode())
    assert (result.returncode, result.stdout) == (2, "")
    assert "permission denied" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_database_without_our_schema_names_the_command_that_creates_it(
    database_url: str, redis_url: str, volume_path: Path, tmp_path: Path
) -> None:
    fleet = Fleet(database_url, redis_url, volume_path, tmp_path)
    result = fleet.towline("pull", "alpine")
    assert result.returncode == 2
    assert "towline migrate" in result.stderr
    assert not any(volume_path.iterdir())

    migrated = fleet.towline("migrate")
    assert migrated.returncode == 0, migrated.stderr
    assert (volume_path / "towline-volume.json").is_file()
    listed = fleet.towline("status", "--json")
    assert (listed.returncode, items(listed)) == (0, [])
    assert fleet.leaks() == []


def test_an_interrupted_pull_continues_in_the_fleet(served: Fleet, registry: FakeRegistry) -> None:
    hold = threading.Event()
    registry.fail(Stall(path=digest_of(LAYER), after_bytes=1000, until=hold, times=1))
    command = [sys.executable, "-m", "workers.cli", "pull", "--platform", "linux/amd64"]
    with subprocess.Popen(
        [*command, f"{registry.host}/team/app:1"],
        env=served.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: registry.asked(digest_of(b"small")), timeout=30)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == 130
    pull_id = printed.strip().rpartition(" ")[2]
    assert f"towline watch {pull_id}" in printed
    hold.set()

    def state() -> str:
        return str(json.loads(served.towline("status", pull_id, "--json").stdout)["state"])

    wait_until(lambda: state() == "complete", timeout=30)
