"""The embedded stack: shared by its users, stopped after the last, whichever process is killed."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
import redis

from tests.support.embedded_stack import (
    POSTGRES,
    REDIS,
    SUPERVISOR,
    WORKER,
    Stack,
    command_line,
    stack_below,
    write,
    written,
)
from tests.support.services import need_servers
from tests.support.waiting import wait_until
from workers.embedded.binaries import WORLD_VARIABLE
from workers.embedded.state import StackHome

pytestmark = pytest.mark.servers


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    need_servers()
    with stack_below(tmp_path / "home") as stack:
        yield stack


@pytest.fixture(params=["system", "wheels"])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(WORLD_VARIABLE, request.param)
    need_servers()
    return str(request.param)


def test_a_stack_has_a_migrated_catalog_a_lasting_queue_and_a_volume(
    world: str, stack: Stack
) -> None:
    given = stack.user().joined()
    with psycopg.connect(given["database"]) as connection:
        assert connection.execute("SELECT count(*) FROM pulls").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM volume").fetchone() == (1,)
    with redis.Redis.from_url(given["broker"], decode_responses=True) as client:
        assert client.config_get("append*")["appendonly"] == "yes"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert (Path(given["volume"]) / "towline-volume.json").is_file()


def test_users_share_one_stack_and_the_last_one_out_stops_it(stack: Stack) -> None:
    first, second = stack.user(), stack.user()
    given = second.joined()
    assert first.joined() == given
    first.leave()
    with psycopg.connect(given["database"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    second.leave()
    # The supervisor has released its lock, but may need a moment to exit.
    wait_until(stack.is_gone)


def test_data_is_kept_when_the_stack_starts_again(stack: Stack) -> None:
    first = stack.user()
    write(first.joined(), "kept")
    first.leave()
    second = stack.user()
    assert written(second.joined()) == "kept"
    # The second time everything is killed instead of shut down.
    wait_until(lambda: stack.processes(WORKER))
    stack.kill()
    second.kill()
    assert written(stack.user().joined()) == "kept"


def test_killing_the_supervisor_leaves_no_process(stack: Stack) -> None:
    user = stack.user()
    user.joined()
    stack.kill(SUPERVISOR)
    wait_until(stack.is_gone, timeout=60)
    assert user.hear()["error"] == "CatalogUnavailable"


def test_after_a_killed_supervisor_the_next_user_starts_a_new_stack_at_once(stack: Stack) -> None:
    first = stack.user()
    before = first.joined()
    write(before, "kept")
    stack.kill(SUPERVISOR)
    assert written(stack.user().joined()) == "kept"


def test_a_new_stack_waits_until_the_servers_of_a_killed_supervisor_have_ended(
    stack: Stack,
) -> None:
    write(stack.user().joined(), "kept")
    (server,) = stack.processes(*REDIS)
    os.kill(server, signal.SIGSTOP)
    stack.kill(SUPERVISOR)
    second = stack.user()
    wait_until(lambda: stack.processes(SUPERVISOR))
    assert stack.processes(*REDIS) == [server]
    os.kill(server, signal.SIGCONT)
    assert written(second.joined()) == "kept"


def test_a_supervisor_that_waits_for_the_last_user_leaks_no_descriptors(stack: Stack) -> None:
    stack.user().joined()
    # A child that it has just forked has the same command line for a moment.
    seen: list[list[int]] = []
    wait_until(lambda: seen.append(stack.processes(SUPERVISOR)) or len(seen[-1]) == 1)
    (supervisor,) = seen[-1]
    descriptors = Path(f"/proc/{supervisor}/fd")
    before = len(list(descriptors.iterdir()))
    before_polls = polls(supervisor)
    wait_until(lambda: polls(supervisor) >= before_polls + 20)
    assert len(list(descriptors.iterdir())) <= before


def test_users_that_start_at_the_same_time_share_one_supervisor(stack: Stack) -> None:
    users = [stack.user() for _ in range(3)]
    assert len({user.joined()["database"] for user in users}) == 1
    wait_until(lambda: len(stack.processes(SUPERVISOR)) == 1)


def test_killing_its_only_user_stops_the_stack(stack: Stack) -> None:
    user = stack.user()
    user.joined()
    user.kill()
    wait_until(stack.is_gone, timeout=60)


@pytest.mark.parametrize(
    ("title", "log"), [(POSTGRES, "postgres.log"), (REDIS, "redis.log")], ids=["postgres", "redis"]
)
def test_a_server_that_dies_ends_the_stack_with_an_error_that_names_its_log(
    stack: Stack, title: Sequence[str], log: str
) -> None:
    user = stack.user()
    user.joined()
    stack.kill(*title)
    report = user.hear()
    assert report["error"] == "CatalogUnavailable"
    assert str(stack.home / "stack" / log) in report["message"]
    assert "of the embedded stack was killed (signal 9)" in report["message"]
    wait_until(stack.is_gone, timeout=60)


def test_a_user_that_starts_while_the_stack_stops_gets_a_new_stack(stack: Stack) -> None:
    first = stack.user()
    first.joined()
    (server,) = stack.processes(*REDIS)
    os.kill(server, signal.SIGSTOP)
    first.process.stdin.close()  # type: ignore[union-attr]
    home = StackHome.below(stack.home)
    wait_until(lambda: home.is_held("users.lock"))
    second = stack.user()
    os.kill(server, signal.SIGCONT)
    assert written(second.joined()) == "nothing"
    assert first.process.wait(timeout=20) == 0


def test_no_password_is_in_a_command_line_or_in_a_file_that_others_can_read(stack: Stack) -> None:
    given = stack.user().joined()
    wait_until(lambda: stack.processes(WORKER))
    secrets = [url.split("@")[0].rpartition(":")[2] for url in (given["database"], given["broker"])]
    seen = "".join(command_line(pid) for pid in stack.processes())
    readable = "".join(
        path.read_text(errors="replace")
        for path in (stack.home / "stack").rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077
    )
    assert all(len(secret) > 20 and secret not in seen + readable for secret in secrets)


def polls(pid: int) -> int:
    """How often a process has gone to sleep, which the supervisor does once per poll."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
