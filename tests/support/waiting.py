"""Waits for a condition instead of for a time."""

import time
from collections.abc import Callable

import pytest

_POLL_SECONDS = 0.02


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Return once `condition` holds; fail the test if it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{condition.__qualname__} was not true within {timeout:g} s.")
        time.sleep(_POLL_SECONDS)
