"""A volume without room."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import LAYER_BYTES, Load
from tests.acceptance.faults.mounts import small_filesystem
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance

VOLUME_BYTES = 4 * LAYER_BYTES


@pytest.fixture
def volume_path(tmp_path: Path) -> Iterator[Path]:
    with small_filesystem(tmp_path / "volume", VOLUME_BYTES) as path:
        yield path


def test_a_pull_waits_for_room_and_completes_when_there_is_some(
    fleet: FaultyFleet, load: Load
) -> None:
    ballast = fleet.volume / "ballast"
    ballast.write_bytes(os.urandom(VOLUME_BYTES - LAYER_BYTES))
    fleet.start(workers=2)
    load.send("a")
    cause = "SELECT 1 FROM pulls WHERE waiting_for->>'cause' = 'space'"
    wait_until(lambda: fleet.sql(cause), timeout=30)
    assert load.handed_out() == 0

    ballast.unlink()
    load.settle()
    invariants.check(load)
