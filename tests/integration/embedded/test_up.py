"""`towline up`: the stack in the foreground, with Flower."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import HTTPBasicAuthHandler, HTTPPasswordMgrWithDefaultRealm, build_opener

import pytest

from tests.support.embedded_stack import REDIS, WORKER, Stack, command_line, stack_below
from tests.support.services import need_servers
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers

COMMAND = (sys.executable, "-m", "workers.cli")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    need_servers()
    with stack_below(tmp_path / "home") as stack:
        yield stack


@pytest.fixture
def up(stack: Stack) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*COMMAND, "up"],
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def output_until_up(up: "subprocess.Popen[str]") -> str:
    """What `towline up` prints until it is up."""
    assert up.stdout is not None
    lines = []
    for line in up.stdout:
        lines.append(line)
        if "Ctrl-C stops it" in line:
            return "".join(lines)
    pytest.fail("".join(lines))


def answer(url: str, user: str = "", password: str = "") -> int:
    """The status of a GET; 0 while no server listens."""
    passwords = HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, user, password)
    opener = build_opener(*([HTTPBasicAuthHandler(passwords)] if user else []))
    try:
        with opener.open(url, timeout=10) as response:
            return int(response.status)
    except HTTPError as error:
        error.close()
        return error.code
    except URLError:
        return 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_flower_behind_a_password_and_ends_on_a_signal(
    up: "subprocess.Popen[str]", stack: Stack, number: signal.Signals
) -> None:
    found = re.search(r"(http://\S+) \(user (\S+), password (\S+)\)", output_until_up(up))
    assert found is not None
    url, user, password = found.groups()
    wait_until(lambda: answer(url) == 401, timeout=30)
    assert answer(url, user, password) == 200
    assert password not in "".join(command_line(pid) for pid in stack.processes())
    up.send_signal(number)
    assert up.wait(timeout=30) == 0
    wait_until(stack.is_gone)


def test_a_second_up_is_refused(up: "subprocess.Popen[str]", stack: Stack) -> None:
    output_until_up(up)
    second = subprocess.run(
        [*COMMAND, "up"], env=stack.environment, capture_output=True, text=True, check=False
    )
    assert second.returncode == 2
    assert str(stack.home) in second.stderr
    up.terminate()


def test_up_exits_with_status_3_when_the_stack_dies(
    up: "subprocess.Popen[str]", stack: Stack
) -> None:
    output_until_up(up)
    stack.kill(*REDIS)
    output, _ = up.communicate(timeout=30)
    assert up.returncode == 3
    assert "redis.log" in output
    wait_until(stack.is_gone)


def test_up_says_that_a_killed_worker_or_reconciler_was_started_again(
    up: "subprocess.Popen[str]", stack: Stack
) -> None:
    output_until_up(up)
    assert up.stdout is not None
    for name, module in (("worker", WORKER), ("reconciler", "workers.embedded.stack_reconciler")):
        wait_until((stack.home / "stack" / f"{name}.ready").exists, timeout=60)
        (killed,) = stack.processes(module)
        os.kill(killed, signal.SIGKILL)
        sentence = f"The {name} was killed (signal 9) and was started again.\n"
        assert up.stdout.readline() == sentence
        wait_until(partial(stack.has_replaced, killed, module))
    up.terminate()
    assert up.wait(timeout=30) == 0


def test_flower_ends_when_up_is_killed(up: "subprocess.Popen[str]", stack: Stack) -> None:
    output_until_up(up)
    os.kill(up.pid, signal.SIGKILL)
    wait_until(stack.is_gone, timeout=30)
