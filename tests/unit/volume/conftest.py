"""A new volume for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.volume.identity import prepare
from shared.volume.store import Volume


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    volume = Volume(tmp_path, prepare(tmp_path, None))
    yield volume
    volume.close()
