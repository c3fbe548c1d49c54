"""A registry that requires a token, with one image, and a driver that pulls it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.registry import Auth, FakeRegistry
from tests.integration.seed.broken_off import LARGE, SMALL
from tests.support.driver import Driver, driving


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(Auth("bearer", anonymous=True)) as registry:
        registry.put_image("team/app", "1", [LARGE, SMALL])
        yield registry


@pytest.fixture
def name(registry: FakeRegistry) -> str:
    return f"{registry.host}/team/app:1"


@pytest.fixture
def driver(migrated_url: str, volume_path: Path) -> Iterator[Driver]:
    with driving(migrated_url, volume_path, stall_timeout_seconds=1) as driver:
        yield driver
