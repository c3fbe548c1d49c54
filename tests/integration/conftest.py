"""What most integration tests have in common."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.certificates import Certificates, certificates
from tests.fakes.registry import FakeRegistry
from tests.support.driver import Driver, driving
from tests.support.services import need_tools


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry that does as it is told; empty."""
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def driver_settings() -> dict[str, Any]:
    """The settings of `driver`. A file with others overrides this fixture."""
    return {"stall_timeout_seconds": 1}


@pytest.fixture
def driver(
    migrated_url: str, volume_path: Path, driver_settings: dict[str, Any]
) -> Iterator[Driver]:
    """A driver with its own database and volume."""
    with driving(migrated_url, volume_path, **driver_settings) as driver:
        yield driver


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA, and the certificate of a registry on this machine."""
    need_tools("openssl")
    return certificates(tmp_path_factory.mktemp("tls"))
