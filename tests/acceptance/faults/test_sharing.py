"""Single flight: a layer that many pulls want is fetched once."""

from tests.acceptance.faults import invariants
from tests.acceptance.faults.apps import add_apps
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import PACE, Load
from tests.fakes.registry import FakeRegistry


def test_a_hundred_pulls_fetch_their_common_base_once(
    fleet: FaultyFleet, registry: FakeRegistry
) -> None:
    load = Load(fleet, registry)
    names = add_apps(load, 100, base_bytes=3_000_000)
    registry.fail(PACE)
    fleet.start(workers=2)
    load.send(*names)
    load.settle()
    # Without a kill, the registry has sent exactly the unique bytes.
    invariants.check(load)
    (requests,) = {len(registry.asked(digest)) for digest in load.sizes}
    assert requests == 1
