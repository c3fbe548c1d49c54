"""Workers that verify diff_ids: what clients and operators see."""

import os
from pathlib import Path

import pytest

from tests.acceptance.fleet import Fleet
from tests.fakes.compressed import gzip_member
from tests.fakes.registry import FakeRegistry, digest_of

VERIFY = "TOWLINE_VERIFY_DIFF_IDS"
TAR = os.urandom(100_000)
LAYER = gzip_member(TAR)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_client_gets_a_correct_image_and_an_error_for_a_wrong_diff_id(
    fleet: Fleet, registry: FakeRegistry, pool: str
) -> None:
    for tag, claim in (("true", digest_of(TAR)), ("lie", digest_of(b"something else"))):
        config = {"rootfs": {"type": "layers", "diff_ids": [claim]}}
        registry.put_image("app", tag, [LAYER], config=config)
    fleet.start_worker(pool, **{VERIFY: "true"})
    with fleet.client() as client:
        asked = {"platform": "linux/amd64"}
        true = client.pull(reference=f"{registry.host}/app:true", **asked)
        lie = client.pull(reference=f"{registry.host}/app:lie", **asked)
        assert true.get(timeout=60)["layers"][0]["diff_id"] == digest_of(TAR)
        error = lie.get(timeout=60, propagate=False)
    assert type(error).__name__ == "InvalidManifest"
    assert f"uncompresses to {digest_of(TAR)}." in error.args[0]
    assert fleet.sql("SELECT diff_id FROM layers") == [(digest_of(TAR),)]


def test_a_worker_without_the_library_exits_with_an_error_at_once(
    fleet: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "isal.py").write_text("raise ModuleNotFoundError('not installed', name='isal')\n")
    environment = {VERIFY: "true", "PYTHONPATH": str(tmp_path)}
    worker = fleet.launch_worker(**environment)
    assert worker.process.wait(timeout=60) == 2
    assert "has no module isal: install towline[diff-ids]" in worker.log.read_text()
    # A worker that does not verify diff_ids does not need the library.
    fleet.start_worker(PYTHONPATH=str(tmp_path))
