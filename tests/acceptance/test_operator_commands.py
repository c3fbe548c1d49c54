"""The commands of operators, with real workers and a real reconciler."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.acceptance.fleet import Fleet, Worker
from tests.fakes.faults import Stall, Status
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.secrecy import secret
from tests.support.waiting import wait_until

SECRET = secret("login")
LAYER = os.urandom(4_000_000)
DIGEST = digest_of(LAYER)
ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def manned(fleet: Fleet, registry: FakeRegistry) -> Fleet:
    """A fleet with a worker and a reconciler, and an image to pull."""
    fleet.settings |= {
        "TOWLINE_LEASE_SECONDS": "5",
        "TOWLINE_RECONCILE_SECONDS": "0.5",
        "TOWLINE_MINIMUM_FREE_BYTES": "0",
        "TOWLINE_DEFAULT_PLATFORM": "linux/amd64",
    }
    registry.put_image("a", "1", [LAYER, b"small"])
    registry.put_image("b", "1", [LAYER])
    fleet.start_worker()
    fleet.workers.append(Worker(*fleet.spawn("reconciler", ["-m", "workers.cli", "reconcile"])))
    leader = "SELECT owner FROM step_leases WHERE name = 'reconciler'"
    wait_until(lambda: fleet.sql(leader), timeout=30)
    return fleet


@pytest.fixture
def hold(registry: FakeRegistry) -> Iterator[threading.Event]:
    """The registry stops in the middle of the layer until this event is set."""
    hold = threading.Event()
    registry.fail(Stall(path=DIGEST, after_bytes=len(LAYER) // 2, times=1, until=hold))
    yield hold
    hold.set()


def pull(fleet: Fleet, registry: FakeRegistry, *options: str, image: str = "a:1") -> str:
    result = fleet.towline("pull", "--detach", *options, f"{registry.host}/{image}")
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def half_way(fleet: Fleet, registry: FakeRegistry, *options: str) -> str:
    """A pull that has fetched half of its layer."""
    pull_id = pull(fleet, registry, *options)
    half = "SELECT count(*) FROM leases WHERE bytes_done = %s"
    wait_until(lambda: fleet.sql(half, len(LAYER) // 2) == [(1,)], timeout=30)
    return pull_id


def state(fleet: Fleet, pull_id: str) -> str:
    return str(fleet.sql("SELECT state FROM pulls WHERE id = %s", pull_id)[0][0])


def is_let_go(fleet: Fleet) -> bool:
    return fleet.sql("SELECT owner FROM leases") == [(None,)]


def document(result: subprocess.CompletedProcess[str]) -> Any:
    printed = json.loads(result.stdout)
    assert printed["format_version"] == "1.0"
    return printed


def items(result: subprocess.CompletedProcess[str]) -> Any:
    return document(result)["items"]


def test_cancel_stops_the_download_and_answers_the_caller(
    manned: Fleet, registry: FakeRegistry, hold: threading.Event
) -> None:
    pull_id = half_way(manned, registry)
    result = manned.towline("cancel", pull_id)
    assert (result.returncode, result.stdout) == (0, f"{pull_id} cancelled\n")
    wait_until(lambda: is_let_go(manned))
    assert manned.sql("SELECT answered_at IS NOT NULL FROM pulls") == [(True,)]
    again = manned.towline("cancel", pull_id, "--json")
    assert again.returncode == 0
    (cancelled,) = items(again)
    assert (cancelled["id"], cancelled["state"]) == (pull_id, "cancelled")


def test_cancel_spares_a_layer_that_another_pull_wants(
    manned: Fleet, registry: FakeRegistry, hold: threading.Event
) -> None:
    first = half_way(manned, registry)
    second = pull(manned, registry, image="b:1")
    wait_until(lambda: state(manned, second) == "fetching", timeout=30)
    assert manned.towline("cancel", first).returncode == 0
    leader = "SELECT pull_id FROM leases"
    wait_until(lambda: manned.sql(leader) == [(second,)])
    assert len(registry.asked(DIGEST)) == 1
    hold.set()
    assert manned.towline("watch", second).returncode == 0
    assert sum(request.sent for request in registry.asked(DIGEST)) == len(LAYER)


def test_cancel_does_not_change_a_pull_that_has_ended(
    manned: Fleet, registry: FakeRegistry
) -> None:
    pull_id = pull(manned, registry)
    assert manned.towline("watch", pull_id).returncode == 0
    result = manned.towline("cancel", pull_id)
    assert result.returncode == 1
    assert f"{pull_id} complete: it had already ended" in result.stdout
    unknown = manned.towline("cancel", ID)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert f"There is no pull {ID}" in unknown.stderr


def test_commands_accept_the_beginning_of_an_id(
    manned: Fleet, registry: FakeRegistry, hold: threading.Event
) -> None:
    pull_id = half_way(manned, registry)
    prefix = pull_id[:8]
    assert document(manned.towline("status", prefix, "--json"))["id"] == pull_id
    assert document(manned.towline("explain", prefix, "--json"))["id"] == pull_id
    cancelled = manned.towline("cancel", prefix)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"{pull_id} cancelled\n")
    assert manned.towline("watch", prefix).returncode == 1
    again = items(manned.towline("retry", prefix, "--json"))
    assert [pulled["retry_of"] for pulled in again] == [pull_id]


def test_an_ambiguous_beginning_of_an_id_is_refused_with_the_candidates(fleet: Fleet) -> None:
    ids = [f"0000000{end}" for end in ("0-a", "0-b")]
    insert = "INSERT INTO pulls (id, reference) VALUES (%s, 'registry.example/a:1') RETURNING id"
    for pull_id in ids:
        fleet.sql(insert, pull_id)
    for command in ("status", "explain", "watch", "cancel", "retry"):
        refused = fleet.towline(command, "00000000")
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
        assert all(pull_id in refused.stderr for pull_id in ids)


def test_cancel_needs_no_queue(manned: Fleet, registry: FakeRegistry) -> None:
    # This pull does not end by itself, however long the command takes to start.
    registry.fail(Status(status=429, headers={"Retry-After": "600"}))
    pull_id = pull(manned, registry)
    result = manned.towline("cancel", pull_id, TOWLINE_BROKER_URL="redis://127.0.0.1:1/0")
    assert (result.returncode, result.stdout) == (0, f"{pull_id} cancelled\n")
    assert "The queue cannot be reached" in result.stderr
    # The reconciler answers instead of the command.
    wait_until(
        lambda: manned.sql("SELECT answered_at IS NOT NULL FROM pulls") == [(True,)], timeout=30
    )


def test_retry_makes_a_new_pull_that_names_the_old_one(
    manned: Fleet, registry: FakeRegistry
) -> None:
    registry.fail(Status(path=DIGEST, status=404))
    failed = pull(manned, registry, "--priority", "7", "--requested-by", "ci")
    assert manned.towline("watch", failed).returncode == 1
    registry.heal()
    result = manned.towline("retry", failed)
    assert result.returncode == 0
    again = result.stdout.strip()
    assert manned.towline("watch", again).returncode == 0
    row = "SELECT retry_of, priority, requested_by FROM pulls WHERE id = %s"
    assert manned.sql(row, again) == [(failed, 7, "ci")]
    refused = manned.towline("retry", again)
    assert refused.returncode == 2
    assert "only one that failed or was cancelled is retried" in refused.stderr


def test_a_pull_whose_retry_is_open_is_not_retried_again(
    manned: Fleet, registry: FakeRegistry, hold: threading.Event
) -> None:
    failed = half_way(manned, registry)
    assert manned.towline("cancel", failed).returncode == 0
    # The retry does not end by itself.
    registry.fail(Status(status=429, headers={"Retry-After": "600"}))
    first = manned.towline("retry", failed)
    second = manned.towline("retry", failed)
    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    again = first.stdout.strip()
    assert f"The pull {failed} was retried already, as {again}, which is " in second.stderr
    assert manned.towline("cancel", again).returncode == 0
    third = items(manned.towline("retry", failed, "--json"))
    assert [pulled["retry_of"] for pulled in third] == [failed]
    assert third[0]["id"] != again


def test_retry_failed_retries_each_pull_once_and_can_select_by_class(
    manned: Fleet, registry: FakeRegistry
) -> None:
    registry.put_image("c", "1", [b"c"])
    registry.fail(Status(path=DIGEST, status=404), Status(path=digest_of(b"c"), status=403))
    blob_unknown, forbidden = pull(manned, registry), pull(manned, registry, image="c:1")
    for pull_id in (blob_unknown, forbidden):
        assert manned.towline("watch", pull_id).returncode == 1
    registry.heal()
    first = items(manned.towline("retry", "--failed", "--error-class", "Forbidden", "--json"))
    assert [pulled["retry_of"] for pulled in first] == [forbidden]
    second = items(manned.towline("retry", "--failed", "--json"))
    assert [pulled["retry_of"] for pulled in second] == [blob_unknown]
    third = manned.towline("retry", "--failed", "--json")
    assert (third.returncode, items(third)) == (0, [])
    for pulled in (*first, *second):
        assert manned.towline("watch", pulled["id"]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["retry"], "Name pulls, or use --failed"),
        (["retry", ID, "--failed"], "Name pulls, or use --failed"),
        (["retry", "--failed", "--error-class", "Nonsense"], "is not an error class"),
        (["retry", ID], f"There is no pull {ID}"),
        (["explain", ID], f"There is no pull {ID}"),
        (["watch", ID], f"There is no pull {ID}"),
        (["pause", "--registry", "a", "--requester", "b"], "two pauses"),
        (["pause", "--registry", "alpine"], "is not a registry"),
        (["history", "alpine"], "has no history"),
    ],
    ids=str,
)
def test_wrong_usage_of_an_operator_ends_with_2(
    fleet: Fleet, arguments: list[str], sentence: str
) -> None:
    result = fleet.towline(*arguments)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_pause_stops_downloads_and_resume_continues_from_their_bytes(
    manned: Fleet, registry: FakeRegistry, hold: threading.Event
) -> None:
    pull_id = half_way(manned, registry)
    paused = manned.towline("pause")
    assert paused.returncode == 0
    assert "To end the pause: `towline resume`" in paused.stdout
    wait_until(lambda: is_let_go(manned))
    printed = document(manned.towline("explain", pull_id, "--json"))
    assert printed["cause"] == "paused"
    assert printed["takes"] == ["run `towline resume`"]
    listed = items(manned.towline("pause", "--list", "--json"))
    assert [pause["scope"] for pause in listed] == ["fleet"]
    assert "was already paused" in manned.towline("pause").stdout

    assert manned.towline("resume").stdout == "The fleet is resumed.\n"
    assert manned.towline("watch", pull_id).returncode == 0
    half = len(LAYER) // 2
    assert [request.range for request in registry.asked(DIGEST)] == [
        None,
        f"bytes={half}-{len(LAYER) - 1}",
    ]
    assert manned.towline("resume").stdout == "The fleet was not paused.\n"


def test_pause_of_a_requester_does_not_affect_other_requesters(
    manned: Fleet, registry: FakeRegistry
) -> None:
    assert manned.towline("pause", "--requester", "ci").returncode == 0
    held = pull(manned, registry, "--requested-by", "ci")
    free = pull(manned, registry, "--requested-by", "web", image="b:1")
    assert manned.towline("watch", free).returncode == 0
    assert state(manned, held) == "queued"
    assert manned.towline("resume", "--requester", "ci").returncode == 0
    assert manned.towline("watch", held).returncode == 0


def test_explain_names_the_pull_that_is_fetching_a_shared_layer(
    manned: Fleet, registry: FakeRegistry, hold: threading.Event
) -> None:
    leader = half_way(manned, registry)
    joined = pull(manned, registry, image="b:1")
    wait_until(lambda: state(manned, joined) == "fetching", timeout=30)
    printed = document(manned.towline("explain", joined, "--json"))
    assert (printed["cause"], printed["pull"]) == ("pull", leader)
    (layer,) = printed["layers"]
    assert layer["pull"]["reference"] == f"{registry.host}/a:1"
    assert layer["bytes_done"] == len(LAYER) // 2
    plain = manned.towline("explain", joined).stdout
    assert f"the pull {leader} of {registry.host}/a:1" in plain
    assert "no estimate: " in plain
    shown = manned.towline("status", joined).stdout
    assert "joined, fetched by" in shown


def test_explain_names_the_worker_that_is_missing(fleet: Fleet, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [LAYER])
    pull_id = pull(fleet, registry, "--platform", "linux/amd64")
    printed = document(fleet.towline("explain", pull_id, "--json"))
    assert printed["cause"] == "turn"
    assert any("towline reconcile" in action for action in printed["takes"])


def test_watch_prints_each_change_as_a_document_and_ends_with_the_pull(
    manned: Fleet, registry: FakeRegistry, hold: threading.Event
) -> None:
    pull_id = half_way(manned, registry)
    command = [sys.executable, "-m", "workers.cli", "watch", pull_id, "--json"]
    with subprocess.Popen(
        command, env=manned.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        hold.set()
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert first["state"] == "fetching"
    assert first["layers"][0]["bytes_done"] == len(LAYER) // 2
    lines = [json.loads(line) for line in rest.splitlines()]
    assert lines[-1]["state"] == "complete"
    assert lines[-1]["bytes_total"] == len(LAYER) + 5


def test_watch_of_the_fleet_prints_starts_and_ends_until_it_is_interrupted(
    manned: Fleet, registry: FakeRegistry, hold: threading.Event
) -> None:
    command = [sys.executable, "-m", "workers.cli", "watch", "--json"]
    with subprocess.Popen(
        command,
        env=manned.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        pull_id = half_way(manned, registry)
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        hold.set()
        states = []
        while not states or states[-1] != "complete":
            states.append(json.loads(process.stdout.readline())["state"])
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=30)
    assert (process.returncode, printed.strip()) == (130, "")
    assert first["id"] == pull_id


def test_watch_prints_plain_lines_in_a_pipe(manned: Fleet, registry: FakeRegistry) -> None:
    result = manned.towline("watch", pull(manned, registry))
    assert result.returncode == 0
    assert f"✓ {registry.host}/a:1" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_pull_that_the_queue_refuses_is_sent_by_the_reconciler(
    manned: Fleet, registry: FakeRegistry
) -> None:
    with redis.Redis.from_url(manned.redis_url) as client:
        client.config_set("maxmemory", 1)
        try:
            result = manned.towline("pull", "--detach", f"{registry.host}/a:1")
        finally:
            client.config_set("maxmemory", 0)
    assert result.returncode == 0, result.stderr
    assert "the reconciler sends what was recorded" in result.stderr
    assert manned.towline("watch", result.stdout.strip()).returncode == 0


def test_a_deadline_ends_a_pull(
    manned: Fleet, registry: FakeRegistry, hold: threading.Event
) -> None:
    result = manned.towline("pull", "--json", "--deadline", "1.5", f"{registry.host}/a:1")
    assert result.returncode == 1
    (ended,) = items(result)
    assert ended["error_class"] == "DeadlineExceeded"


def test_history_lists_what_a_tag_has_named(manned: Fleet, registry: FakeRegistry) -> None:
    name = f"{registry.host}/a:1"
    assert manned.towline("pull", name).returncode == 0
    moved = registry.put_image("a", "1", [b"another"])
    assert manned.towline("pull", name).returncode == 0
    rows = items(manned.towline("history", name, "--platform", "linux/amd64", "--json"))
    assert rows[0]["manifest_digest"] == moved
    assert len(rows) == 2
    assert moved in manned.towline("history", name).stdout


def test_doctor_finds_no_problem_in_a_sound_fleet(manned: Fleet, registry: FakeRegistry) -> None:
    assert manned.towline("pull", f"{registry.host}/a:1").returncode == 0
    result = manned.towline("doctor", "--deep", "--json")
    printed = document(result)
    assert [check for check in printed["checks"] if check["level"] == "problem"] == []
    assert (result.returncode, printed["healthy"], result.stderr) == (0, True, "")
    assert {"database", "queue", "workers", "reconciler", "bytes", "layouts"} <= {
        check["check"] for check in printed["checks"]
    }


def test_doctor_finds_what_is_wrong_and_says_what_to_do(
    fleet: Fleet, registry: FakeRegistry
) -> None:
    result = fleet.towline("doctor")
    assert result.returncode == 1
    assert "No worker consumes towline.layers" in result.stdout
    assert "start `towline reconcile`" in result.stdout
    away = fleet.towline("doctor", TOWLINE_DATABASE_URL=f"postgresql://u:{SECRET}@127.0.0.1:1/d")
    assert away.returncode == 1
    assert SECRET not in away.stdout + away.stderr
