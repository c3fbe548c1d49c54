"""A volume that fills up under running layers, whatever was reserved."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import LAYER_BYTES, Load
from tests.acceptance.faults.mounts import small_filesystem
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance

VOLUME_BYTES = 6 * LAYER_BYTES


@pytest.fixture
def volume_path(tmp_path: Path) -> Iterator[Path]:
    with small_filesystem(tmp_path / "volume", VOLUME_BYTES) as path:
        yield path


def test_a_disk_that_fills_up_under_running_layers_loses_no_byte_of_them(
    fleet: FaultyFleet, load: Load
) -> None:
    fleet.start(workers=2)
    load.send("a", "b")
    load.under_way(3)
    ballast = fleet.volume / "ballast"
    fill(ballast)
    cause = "SELECT 1 FROM pulls WHERE waiting_for->>'cause' = 'space'"
    wait_until(lambda: len(fleet.sql(cause)) == 2, timeout=30)
    ballast.unlink()
    load.settle()
    invariants.check(load, kills=3)


def fill(path: Path) -> None:
    """Write until nothing more goes in."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
