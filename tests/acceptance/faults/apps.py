"""Many images that share a base."""

import os

from tests.acceptance.faults.load import Load


def add_apps(load: Load, count: int, base_bytes: int) -> list[str]:
    """Add images with a common base and one small layer each. Their repositories."""
    base = os.urandom(base_bytes)
    names = [f"app{number}" for number in range(count)]
    for name in names:
        load.add(name, [base, os.urandom(20_000)])
    return names
