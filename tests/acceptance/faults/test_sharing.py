"""Single flight: what many want is fetched once."""

import os

import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import PACE, Load
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.acceptance


def test_a_hundred_pulls_fetch_their_common_base_once(
    fleet: FaultyFleet, registry: FakeRegistry
) -> None:
    load = Load(fleet, registry)
    base = os.urandom(3_000_000)
    names = [f"app{number}" for number in range(100)]
    for name in names:
        load.add(name, [base, os.urandom(20_000)])
    registry.fail(PACE)
    fleet.start(workers=2)
    load.send(*names)
    load.settle()
    # Without a kill: handed out ÷ unique = 1.00, to the byte.
    invariants.check(load)
    (requests,) = {len(registry.asked(digest)) for digest in load.sizes}
    assert requests == 1
