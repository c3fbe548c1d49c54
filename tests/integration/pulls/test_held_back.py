"""A registry that asks the fleet to wait for an hour delays its own pulls, and no others."""

import pytest

from shared.catalog.fleet import fleet_slots
from shared.pulls.accepting import admit
from shared.pulls.steps.outcomes import TryAgain
from tests.fakes.faults import Status
from tests.fakes.registry import FakeRegistry
from tests.support.driver import Driver

AN_HOUR = Status(path="/manifests/", status=429, headers={"Retry-After": "3600"})
IS_WAITING = "SELECT id FROM pulls WHERE state = 'queued' AND admitted_at IS NULL ORDER BY id"


def ask(driver: Driver, registry: FakeRegistry, pull_id: str, **more: object) -> object:
    asked = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64", **more}
    return driver.plan(pull_id, asked)


@pytest.fixture
def refused(driver: Driver, registry: FakeRegistry) -> Driver:
    """The registry has answered one pull with 429 and an hour to wait."""
    registry.put_image("a", "1", [b"layer"])
    registry.fail(AN_HOUR)
    with pytest.raises(TryAgain) as raised:
        ask(driver, registry, "first")
    assert not raised.value.in_memory
    registry.heal()
    return driver


def test_a_pull_that_has_to_wait_for_an_hour_is_queued_again(refused: Driver) -> None:
    pull = refused.row("first")
    assert (pull.state, pull.admitted_at) == ("queued", None)
    assert pull.waiting_for is not None
    assert pull.waiting_for["cause"] == "rate_limit"
    assert refused.sql("SELECT count(*) FROM step_leases") == [(0,)]


def test_the_next_pulls_of_that_registry_are_not_admitted(
    refused: Driver, registry: FakeRegistry
) -> None:
    before = len(registry.requests)
    for number in range(5):
        assert ask(refused, registry, f"later {number}") is None
    assert len(refused.sql(IS_WAITING)) == 6
    assert admit(refused.resources.catalog) == []
    assert len(registry.requests) == before


def test_pulls_of_another_registry_are_not_delayed(refused: Driver, registry: FakeRegistry) -> None:
    with refused.resources.catalog.begin() as tx:
        fleet_slots.count_slots(tx, 4, 4)
    for number in range(30):
        assert ask(refused, registry, f"later {number}") is None
    with FakeRegistry() as other:
        other.put_image("a", "1", [b"another layer"])
        assert refused.pull(f"{other.host}/a:1", "elsewhere")["bytes_fetched"] > 0


def test_the_pulls_are_admitted_when_the_time_has_come(
    refused: Driver, registry: FakeRegistry
) -> None:
    assert ask(refused, registry, "later") is None
    refused.change("UPDATE registry_holds SET until = now() - interval '1 second'")
    refused.change("UPDATE pulls SET not_before = NULL")
    assert {pull.pull_id for pull in admit(refused.resources.catalog)} == {"first", "later"}
