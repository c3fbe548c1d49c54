"""Contents of the tests' layers, and what must hold for a volume after every pull."""

import os

from tests.fakes.registry import digest_of
from tests.support.driver import Driver

SMALL, LARGE = os.urandom(50_000), os.urandom(3_000_000)


def assert_whole(driver: Driver) -> None:
    """Every file below blobs/ hashes to its name, and stored rows and files correspond."""
    blobs = driver.blobs()
    for digest, raw in blobs.items():
        assert digest_of(raw, digest.partition(":")[0]) == digest
    stored = {row[0] for row in driver.sql("SELECT digest FROM blobs WHERE stored_at IS NOT NULL")}
    assert stored == set(blobs)
