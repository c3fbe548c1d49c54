"""Steps that run twice, and changes that happen between two steps."""

import pytest

from shared.catalog.model.pull_values import NewPull
from shared.catalog.pulls import lifecycle
from tests.fakes.registry import FakeRegistry, digest_of
from tests.integration.pulls.wholeness import LARGE, SMALL
from tests.support.driver import Driver


def test_the_same_id_is_one_pull_and_its_first_arguments_win(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    first = driver.pull(f"{registry.host}/a:1", pull_id="p")
    second = driver.pull("NOT/a:reference", pull_id="p", nonsense=True)
    assert first == second
    assert len(driver.sql("SELECT 1 FROM pulls")) == 1


def test_a_pull_recorded_by_our_client_gets_the_workers_platform(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    with driver.resources.catalog.begin() as tx:
        lifecycle.record(tx, NewPull(id="p", reference=f"{registry.host}/a:1", platform=None))
    driver.plan("p", {})
    assert str(driver.row("p").platform).startswith("linux/")


def test_every_step_may_run_twice(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL, LARGE])
    kwargs = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    plan = driver.plan("p", kwargs)
    assert plan is not None
    assert driver.plan("p", kwargs) is None
    assert driver.link("p") is None
    for digest in [*plan.missing, *plan.missing]:
        driver.fetch("p", digest)
    receipts = [driver.link("p") for _ in range(2)]
    assert receipts[0] == receipts[1] is not None
    assert len(registry.asked("blobs/" + digest_of(LARGE))) == 1
    assert driver.sql("SELECT count(*) FROM manifest_layers") == [(2,)]


def test_a_resumed_plan_keeps_its_manifest_though_the_tag_moves(
    driver: Driver, registry: FakeRegistry
) -> None:
    first = registry.put_image("a", "1", [SMALL])
    kwargs = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    driver.plan("p", kwargs)
    registry.put_image("a", "1", [LARGE])
    assert driver.pull(pull_id="p", **kwargs)["manifest"] == first


def test_of_two_workers_that_plan_one_pull_the_first_manifest_stays(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    kwargs = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    first = registry.put_image("a", "1", [SMALL])
    ask = driver.resources.registry.manifest

    def overtaken(*arguments: object) -> object:
        """Answer with the new tag, after another worker has planned the pull with the old one."""
        monkeypatch.setattr(driver.resources.registry, "manifest", ask)
        # The first worker hangs, so its lease has expired.
        driver.change("UPDATE step_leases SET expires_at = now() - interval '1 second'")
        driver.plan("p", kwargs)
        registry.put_image("a", "1", [LARGE])
        return ask(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(driver.resources.registry, "manifest", overtaken)
    plan = driver.plan("p", kwargs)
    assert plan is not None
    assert [str(digest) for digest in plan.missing] == [digest_of(SMALL)]
    assert driver.row("p").manifest_digest == first
    assert len(driver.layers("p")) == 1


def test_a_chord_that_failed_does_not_fail_its_pull(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL])
    asked = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    assert driver.plan("p", asked) is not None
    # A header task was revoked. The coordinator runs again, and the reconciler sends what is lost.
    assert driver.plan("p", asked) is None
    driver.pull(pull_id="p", **asked)
    assert driver.plan("p", asked) is None


def test_an_id_that_is_sent_again_and_again_adds_no_message(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    asked = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    assert driver.plan("p", asked) is not None
    driver.change("UPDATE pull_layers SET dispatched_at = now() - interval '1 hour'")
    for _ in range(3):
        assert driver.plan("p", asked) is None
    # Only Redis knows whether a message of the pull is lost.
    assert (driver.outbox.layers, driver.outbox.resumes) == ([], [])
    assert {str(layer.digest) for layer in driver.outbox.maybe_lost} == {digest_of(SMALL)}
