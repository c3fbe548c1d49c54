"""A volume without space, from the beginning or during downloads, in spite of reservations."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import LAYER_BYTES, Load
from tests.acceptance.faults.mounts import small_filesystem
from tests.support.waiting import wait_until


@pytest.fixture
def volume_bytes() -> int:
    return 4 * LAYER_BYTES


@pytest.fixture
def volume_path(tmp_path: Path, volume_bytes: int) -> Iterator[Path]:
    with small_filesystem(tmp_path / "volume", volume_bytes) as path:
        yield path


def test_a_pull_waits_for_space_and_completes_when_there_is_some(
    fleet: FaultyFleet, load: Load, volume_bytes: int
) -> None:
    ballast = fleet.volume / "ballast"
    ballast.write_bytes(os.urandom(volume_bytes - LAYER_BYTES))
    fleet.start(workers=2)
    load.send("a")
    cause = "SELECT 1 FROM pulls WHERE waiting_for->>'cause' = 'space'"
    wait_until(lambda: fleet.sql(cause), timeout=30)
    assert load.handed_out() == 0

    ballast.unlink()
    load.settle()
    invariants.check(load)


@pytest.mark.parametrize("volume_bytes", [6 * LAYER_BYTES])
def test_a_disk_that_fills_up_during_downloads_loses_no_byte(
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
    """Write to this file until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
