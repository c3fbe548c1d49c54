"""What a worker process imports, and which options its command takes."""

import os
import subprocess
import sys

from workers.cli.fleet.worker import worker_command

LOADED = """
import sys
from workers import consuming, app, tasks
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_a_worker_loads_neither_flower_nor_a_shell() -> None:
    result = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True)
    assert {"celery", "shared"} <= set(result.stdout.decode().split())
    assert set(result.stdout.decode().split()).isdisjoint({"flower", "tornado", "prompt_toolkit"})


def test_every_option_is_passed_to_celerys_own_command() -> None:
    context = worker_command.make_context("worker", ["-P", "threads", "--help", "-Q", "a,b"])
    assert context.params["options"] == ("-P", "threads", "--help", "-Q", "a,b")


def test_the_command_takes_a_file_for_health_checks_and_says_so() -> None:
    environment = {
        **os.environ,
        "TOWLINE_DATABASE_URL": "postgresql://nowhere.invalid/db",
        "TOWLINE_BROKER_URL": "redis://nowhere.invalid",
    }
    for command in ("workers.cli worker", "celery -A workers.app worker"):
        shown = subprocess.run(
            [sys.executable, "-m", *command.split(), "--help"],
            capture_output=True,
            check=True,
            env=environment,
        )
        assert b"--alive FILE" in shown.stdout
