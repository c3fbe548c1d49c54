"""`towline pull` on a machine without a fleet: the stack starts, works and stops."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.fakes.faults import Stall
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.services import passable_directory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers

LAYER = os.urandom(8_000_000)


def command(home: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "workers.cli", *arguments],
        env={**os.environ, "TOWLINE_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(home: Path, *arguments: str) -> tuple[int, str, str]:
    with command(home, *arguments) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def processes_below(home: Path) -> list[str]:
    """The command lines and environments of live processes that name this home."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if str(home).encode() in text and int(path.name) != os.getpid():
            found.append(text.replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def test_one_command_pulls_an_image_and_leaves_no_process_running() -> None:
    with passable_directory() as home, FakeRegistry() as registry:
        registry.put_image("team/app", "1", [LAYER, b"small"])
        name = f"{registry.host}/team/app:1"
        status, out, err = run(home, "pull", name, "--platform", "linux/amd64")
        assert status == 0, err
        assert f"✓ {name}" in out
        blob = home / "volume" / "blobs" / "sha256" / digest_of(LAYER).partition(":")[2]
        assert blob.read_bytes() == LAYER
        # The supervisor releases its lock just before it exits, so it may need a moment.
        wait_until(lambda: processes_below(home) == [])

        status, out, err = run(home, "pull", "--json", name, "--platform", "linux/amd64")
        assert status == 0, err
        assert json.loads(out)["items"][0]["receipt"]["bytes_fetched"] == 0
        assert len(registry.asked("/blobs/")) == 3

        status, out, err = run(home, "pull", "--detach", name)
        assert status == 2
        assert "towline up" in err


def test_after_ctrl_c_the_printed_command_continues_at_once_with_the_bytes_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The next pull would time out if it waited for a lease or a message of the stack before.
    monkeypatch.setenv("TOWLINE_LEASE_SECONDS", "600")
    with passable_directory() as home, FakeRegistry() as registry:
        registry.put_image("team/app", "1", [LAYER])
        hold = threading.Event()
        registry.fail(Stall(path=digest_of(LAYER), after_bytes=6_000_000, until=hold, times=1))
        name = f"{registry.host}/team/app:1"
        with command(home, "pull", name, "--platform", "linux/amd64") as process:
            ingest = home / "volume/ingest"
            wait_until(
                lambda: any(
                    path.stat().st_size > 5_000_000 for path in ingest.rglob("*") if path.is_file()
                ),
                timeout=60,
            )
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        hold.set()
        assert process.returncode == 130
        assert f"towline pull {name}" in err
        # The supervisor releases its lock just before it exits, so it may need a moment.
        wait_until(lambda: processes_below(home) == [])

        status, out, err = run(home, "pull", "--json", name, "--platform", "linux/amd64")
        assert status == 0, err
        (pulled,) = json.loads(out)["items"]
        receipt = pulled["receipt"]
        # The interrupted pull still exists and continues first. The second pull joins it, or finds
        # the layer that it has stored.
        assert receipt["layers"][0]["source"] in {"resumed", "joined", "present"}
        assert receipt["bytes_fetched"] < 4_000_000
        sent = sum(request.sent for request in registry.asked(digest_of(LAYER)))
        assert sent < len(LAYER) + 4_000_000


def test_a_pull_that_is_interrupted_continues_in_the_stack_that_another_command_uses() -> None:
    with passable_directory() as home, FakeRegistry() as registry:
        hold = threading.Event()
        commands = []
        for name in ("one", "two"):
            layer = os.urandom(1_000_000)
            registry.put_image(name, "1", [layer])
            registry.fail(Stall(path=digest_of(layer), after_bytes=1000, until=hold))
            reference = f"{registry.host}/{name}:1"
            commands.append(command(home, "pull", reference, "--platform", "linux/amd64"))
            wait_until(lambda layer=layer: registry.asked(digest_of(layer)), timeout=120)  # type: ignore[misc]
        one, two = commands
        with one, two:
            one.send_signal(signal.SIGINT)
            _, err = one.communicate(timeout=60)
            assert one.returncode == 130
            assert "The pull continues in the fleet" in err
            assert "To continue" not in err
            two.send_signal(signal.SIGINT)
            _, err = two.communicate(timeout=60)
            assert f"towline pull {registry.host}/two:1" in err
        hold.set()
        wait_until(lambda: processes_below(home) == [], timeout=30)


def test_an_invalid_registries_file_is_wrong_usage_and_starts_no_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with passable_directory() as home:
        for file, sentence in (("none.toml", "cannot be read"), ("bad.toml", "is not TOML")):
            (home / "bad.toml").write_text("[registries")
            monkeypatch.setenv("TOWLINE_REGISTRIES_FILE", str(home / file))
            status, out, err = run(home, "pull", "alpine")
            assert (status, out) == (2, "")
            assert f"{home / file} {sentence}" in err
        assert not (home / "stack").exists()


def test_doctor_finds_no_problem_in_a_stack_that_it_has_just_started() -> None:
    with passable_directory() as home:
        status, out, err = run(home, "doctor")
        assert (status, err) == (0, ""), out
