"""Many pulls of one image: one download, few messages, and all of them complete together."""

import pytest

from shared.catalog import duplicates
from tests.driver import Driver
from tests.fakes.registry import FakeRegistry
from workers.pulling.ending import cancel_pull

pytestmark = pytest.mark.integration

LAYERS = [b"one" * 100_000, b"two" * 100_000, b"three" * 100_000]
MANY = 12


@pytest.fixture
def registry_of_one(registry: FakeRegistry) -> FakeRegistry:
    registry.put_image("team/app", "1", LAYERS)
    return registry


def plan_many(driver: Driver, registry: FakeRegistry) -> list[str]:
    """Their ids; the first one alone has messages."""
    asked = {"reference": f"{registry.host}/team/app:1", "platform": "linux/amd64"}
    plan = driver.plan("0", asked)
    assert plan is not None
    assert (len(plan.missing), plan.followed) == (len(LAYERS), 0)
    for number in range(1, MANY):
        plan = driver.plan(f"{number}", asked)
        assert plan is not None
        assert (list(plan.missing), plan.followed) == ([], len(LAYERS))
    return [f"{number}" for number in range(MANY)]


def test_all_pulls_of_an_image_are_complete_with_the_first(
    driver: Driver, registry_of_one: FakeRegistry
) -> None:
    ids = plan_many(driver, registry_of_one)
    for layer in driver.layers("0"):
        driver.fetch("0", layer.digest)
    assert driver.outbox.links == ["0"]
    assert driver.link("0") is not None
    assert sorted(driver.outbox.ended) == sorted(ids)
    receipts = [driver.row(pull_id).receipt for pull_id in ids]
    assert all(receipts)
    told = [
        (one["pull_id"], one["bytes_fetched"], {layer["source"] for layer in one["layers"]})
        for one in receipts
        if one
    ]
    assert told[0] == ("0", sum(map(len, LAYERS)), {"network"})
    assert told[1:] == [(pull_id, 0, {"joined"}) for pull_id in ids[1:]]
    assert driver.sql("SELECT count(*) FROM pull_layers WHERE has_message") == [(0,)]


def test_more_than_a_batch_is_completed_by_one_message_after_the_other(
    driver: Driver, registry_of_one: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = plan_many(driver, registry_of_one)
    monkeypatch.setattr(duplicates, "BATCH", 4)
    for layer in driver.layers("0"):
        driver.fetch("0", layer.digest)
    links = 0
    while driver.outbox.links:
        links += 1
        assert len(driver.outbox.links) == 1
        driver.link(driver.outbox.links.pop())
    assert sorted(driver.outbox.ended) == sorted(ids)
    # Five with each message.
    assert links == 3


def test_pulls_that_follow_go_on_when_their_leader_is_cancelled(
    driver: Driver, registry_of_one: FakeRegistry
) -> None:
    ids = plan_many(driver, registry_of_one)
    digests = [layer.digest for layer in driver.layers("0")]
    driver.fetch("0", digests[0])
    cancel_pull(driver.resources.catalog, "0")
    # The messages of the cancelled pull come, and find its followers.
    for digest in digests[1:]:
        driver.fetch("0", digest)
    assert [message.pull_id for message in driver.outbox.layers] == ["1", "1"]
    for message in driver.outbox.layers:
        driver.fetch(message.pull_id, message.digest)
    driver.link("1")
    assert sorted(driver.outbox.ended) == sorted(ids[1:])
    assert driver.row("0").state == "cancelled"
