"""Many pulls of one image: one download, few messages, and they complete together."""

from contextlib import suppress

import pytest

from shared.catalog.pulls import same_image
from shared.errors import InvalidManifest
from shared.pulls.cancelling import cancel_pull
from tests.fakes.registry import FakeRegistry
from tests.support.driver import Driver

LAYERS = [b"one" * 100_000, b"two" * 100_000, b"three" * 100_000]
MANY = 12


@pytest.fixture
def registry_of_one(registry: FakeRegistry) -> FakeRegistry:
    registry.put_image("team/app", "1", LAYERS)
    return registry


def plan_many(driver: Driver, registry: FakeRegistry) -> list[str]:
    """Plan many pulls of one image; only the first has messages. Their ids."""
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
    fetched = [
        (
            receipt["pull_id"],
            receipt["bytes_fetched"],
            {layer["source"] for layer in receipt["layers"]},
        )
        for receipt in receipts
        if receipt
    ]
    assert fetched[0] == ("0", sum(map(len, LAYERS)), {"network"})
    assert fetched[1:] == [(pull_id, 0, {"joined"}) for pull_id in ids[1:]]
    assert driver.sql("SELECT count(*) FROM pull_layers WHERE has_message") == [(0,)]


def test_more_than_a_batch_is_completed_by_one_message_after_the_other(
    driver: Driver, registry_of_one: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = plan_many(driver, registry_of_one)
    monkeypatch.setattr(same_image, "BATCH", 4)
    for layer in driver.layers("0"):
        driver.fetch("0", layer.digest)
    links = 0
    while driver.outbox.links:
        links += 1
        assert len(driver.outbox.links) == 1
        driver.link(driver.outbox.links.pop())
    assert sorted(driver.outbox.ended) == sorted(ids)
    # Each message completes five pulls: its own and a batch of four.
    assert links == 3


def test_pulls_that_follow_go_on_when_their_leader_is_cancelled(
    driver: Driver, registry_of_one: FakeRegistry
) -> None:
    ids = plan_many(driver, registry_of_one)
    digests = [layer.digest for layer in driver.layers("0")]
    driver.fetch("0", digests[0])
    cancel_pull(driver.resources.catalog, "0")
    # The messages of the cancelled pull arrive, and are passed on to its followers.
    for digest in digests[1:]:
        driver.fetch("0", digest)
    assert [message.pull_id for message in driver.outbox.layers] == ["1", "1"]
    for message in driver.outbox.layers:
        driver.fetch(message.pull_id, message.digest)
    driver.link("1")
    assert sorted(driver.outbox.ended) == sorted(ids[1:])
    assert driver.row("0").state == "cancelled"


def land_all(driver: Driver) -> None:
    for layer in driver.layers("0"):
        driver.fetch("0", layer.digest)


def link_all(driver: Driver) -> list[str]:
    """Run each link, and the links that it sends. The linked pulls, in order."""
    linked = []
    while driver.outbox.links:
        linked.append(driver.outbox.links.pop(0))
        with suppress(InvalidManifest):
            driver.link(linked[-1])
    return linked


def test_pulls_of_what_a_tag_named_before_are_complete_together(
    driver: Driver, registry_of_one: FakeRegistry
) -> None:
    ids = plan_many(driver, registry_of_one)
    registry_of_one.put_image("team/app", "1", [b"newer" * 100_000])
    newer = driver.pull(f"{registry_of_one.host}/team/app:1", "newer")
    driver.outbox.links.clear()
    land_all(driver)
    assert link_all(driver) == ["0"]
    assert sorted(driver.outbox.ended) == sorted([*ids, "newer"])
    assert {driver.row(pull_id).state for pull_id in ids} == {"complete"}
    named = "SELECT digest FROM images JOIN manifests ON manifests.id = manifest_id"
    assert driver.sql(named) == [(newer["manifest"],)]


def test_pulls_that_asked_after_the_tag_moved_back_move_it_back(
    driver: Driver, registry_of_one: FakeRegistry
) -> None:
    ids = plan_many(driver, registry_of_one)
    registry_of_one.put_image("team/app", "1", [b"newer" * 100_000])
    driver.pull(f"{registry_of_one.host}/team/app:1", "newer")
    driver.outbox.links.clear()
    driver.change("UPDATE pulls SET resolved_at = now() + interval '1 s' WHERE id IN ('3', '5')")
    land_all(driver)
    # The older pulls complete with the first one. The tag moves back with a newer pull.
    assert link_all(driver) == ["0", "3"]
    assert {driver.row(pull_id).state for pull_id in ids} == {"complete"}
    named = "SELECT digest FROM images JOIN manifests ON manifests.id = manifest_id"
    assert driver.sql(named) == [(driver.row("0").manifest_digest,)]


def test_pulls_whose_image_was_removed_are_linked_once_more(
    driver: Driver, registry_of_one: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = plan_many(driver, registry_of_one)
    land_all(driver)
    monkeypatch.setattr(same_image, "BATCH", 4)
    driver.link(driver.outbox.links.pop())
    driver.change("DELETE FROM images")
    link_all(driver)
    assert {driver.row(pull_id).state for pull_id in ids} == {"complete"}
    assert driver.sql("SELECT count(*) FROM images") == [(1,)]


def test_the_image_names_the_index_of_the_latest_resolution(
    driver: Driver, registry_of_one: FakeRegistry
) -> None:
    plan_many(driver, registry_of_one)
    land_all(driver)
    # During the downloads, the tag named the same manifest through an index for a while.
    other = driver.row("0").manifest_digest
    driver.change(
        "INSERT INTO indexes (digest, media_type, size_bytes, schema_version, document)"
        f" VALUES ('{other}', 'index', 1, 2, '{{}}')"
    )
    driver.change(
        "INSERT INTO images (reference, platform, manifest_id, index_id, size_bytes, resolved_at)"
        " SELECT reference, platform, manifests.id, indexes.id, 1, resolved_at"
        "     + interval '1 minute' FROM pulls, manifests, indexes WHERE pulls.id = '0'"
    )
    driver.change("UPDATE pulls SET resolved_at = now() + interval '1 hour' WHERE id = '7'")
    link_all(driver)
    assert driver.row("7").state == "complete"
    assert driver.sql("SELECT index_id FROM images") == [(None,)]


def test_pulls_of_an_image_whose_first_is_cancelled_before_its_link_go_on(
    driver: Driver, registry_of_one: FakeRegistry
) -> None:
    ids = plan_many(driver, registry_of_one)
    land_all(driver)
    cancel_pull(driver.resources.catalog, "0")
    assert link_all(driver) == ["0", "1"]
    assert {driver.row(pull_id).state for pull_id in ids[1:]} == {"complete"}


def test_pulls_with_the_same_wrong_claim_fail_one_after_the_other(
    driver: Driver, registry_of_one: FakeRegistry
) -> None:
    ids = plan_many(driver, registry_of_one)
    land_all(driver)
    driver.change("UPDATE pull_layers SET size_bytes = size_bytes + 1")
    assert sorted(link_all(driver)) == sorted(ids)
    ends = {(driver.row(pull_id).state, driver.row(pull_id).error_class) for pull_id in ids}
    assert ends == {("failed", "InvalidManifest")}
