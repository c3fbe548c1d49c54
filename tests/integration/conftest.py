"""What most integration tests have in common."""

from collections.abc import Iterator

import pytest

from tests.fakes.registry import FakeRegistry


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry that does as it is told; empty."""
    with FakeRegistry() as registry:
        yield registry
