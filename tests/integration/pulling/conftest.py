"""A driver with its own database and volume, and with a short stall time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.driver import Driver, driving


@pytest.fixture
def driver(migrated_url: str, volume_path: Path) -> Iterator[Driver]:
    with driving(migrated_url, volume_path, stall_timeout_seconds=1) as driver:
        yield driver
