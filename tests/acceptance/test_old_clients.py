"""Services with other versions of Celery than ours get the receipt or the failure.

`TOWLINE_TEST_CLIENTS`: Python interpreters with Celery, separated by `:`. Without it, the test
creates an environment with Celery 5.3, which sends headers that our version does not.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.fleet import Fleet
from tests.fakes.faults import Status
from tests.fakes.registry import FakeRegistry, digest_of

# Read before each test's environment is cleaned.
CLIENTS = os.environ.get("TOWLINE_TEST_CLIENTS")

_OLD = ("celery==5.3.6", "kombu==5.3.4", "redis==5.0.8")
_PULLS = 10 if CLIENTS else 3

_CLIENT = """
import json, sys
from celery import Celery

app = Celery(broker=sys.argv[1], backend=sys.argv[1])
sent = [
    app.send_task("towline.pull_image", kwargs=kwargs, queue="towline.pulls")
    for kwargs in json.loads(sys.argv[2])
]
for pull in sent:
    try:
        print(json.dumps(["receipt", pull.get(timeout=60)]))
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.fixture(scope="session")
def interpreters(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    if CLIENTS:
        return CLIENTS.split(":")
    home = tmp_path_factory.mktemp("old-client")
    python = str(home / "bin" / "python")
    steps = [
        ["uv", "venv", "--quiet", "--python", sys.executable, str(home)],
        ["uv", "pip", "install", "--quiet", "--python", python, *_OLD],
    ]
    try:
        for step in steps:
            subprocess.run(step, capture_output=True, text=True, check=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        # In CI as well: we cannot rely on the package index.
        pytest.skip(f"Celery 5.3 cannot be installed: {error}")
    return [python]


def run(python: str, fleet: Fleet, asked: list[dict[str, Any]], tmp_path: Path) -> list[Any]:
    """Send these pulls with this interpreter's Celery. The receipt or failure of each."""
    script = tmp_path / "client.py"
    script.write_text(_CLIENT)
    command = [python, str(script), fleet.redis_url, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_client_of_another_version_gets_the_receipt_or_the_failure(
    fleet: Fleet, registry: FakeRegistry, interpreters: list[str], tmp_path: Path
) -> None:
    gone = b"a layer that its registry does not have"
    registry.fail(Status(path=digest_of(gone), status=404))
    fleet.start_worker()
    for python in interpreters:
        names = [f"{interpreters.index(python)}-{number}" for number in range(_PULLS)]
        for name in names:
            registry.put_image(name, "good", [os.urandom(300_000), os.urandom(100)])
            registry.put_image(name, "bad", [gone, name.encode()])
        asked = [
            {"reference": f"{registry.host}/{name}:{tag}", "platform": "linux/amd64"}
            for name in names
            for tag in ("good", "bad")
        ]
        got = run(python, fleet, asked, tmp_path)
        receipts = [end for kind, end in got[::2] if kind == "receipt" and end is not None]
        assert [receipt["bytes_fetched"] for receipt in receipts] == [300_100] * _PULLS, python
        assert [kind for kind, _ in got[1::2]] == ["BlobUnknown"] * _PULLS, python
