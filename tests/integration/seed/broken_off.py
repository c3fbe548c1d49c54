"""A pull whose download of the large layer was interrupted."""

import os

import pytest

from shared.oci.digest import Digest
from shared.pulls.layers.fetching import fetch_layer
from shared.pulls.steps.attempts import TryAgain
from tests.fakes.faults import CutAt
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.driver import Driver

SMALL, LARGE = os.urandom(50_000), os.urandom(3_000_000)


def partial(driver: Driver, registry: FakeRegistry, name: str, reached: int) -> str:
    """Start a pull whose large layer is cut at byte `reached`. Returns the pull's id."""
    driver.plan("p", {"reference": name, "platform": "linux/amd64"})
    registry.fail(CutAt(path=digest_of(LARGE), byte=reached))
    with pytest.raises(TryAgain):
        try_layer(driver)
    registry.heal()
    return "p"


def try_layer(driver: Driver, raw: bytes = LARGE) -> None:
    fetch_layer(
        driver.resources,
        "p",
        Digest.parse(digest_of(raw)),
        lambda _offset, _size: None,
        driver.outbox,
    )


def ingest_bytes(driver: Driver) -> int:
    files = [path for path in (driver.volume / "ingest").rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if path.suffix != ".journal")
