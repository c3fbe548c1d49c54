"""Waiting for a condition instead of for a time."""

import time
from collections.abc import Callable

import pytest

_POLL_SECONDS = 0.02


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Return once `condition` holds; fail the test when it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {timeout:g} s in vain for {condition.__qualname__}.")
        time.sleep(_POLL_SECONDS)
