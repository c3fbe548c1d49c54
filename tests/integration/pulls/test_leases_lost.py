"""Lease owners that die, hang or are overtaken: their bytes are kept, and they do no harm."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.catalog.database.catalog import Connection
from shared.catalog.layers import leases
from shared.catalog.pulls import finish
from shared.errors import (
    CatalogUnavailable,
    DigestMismatch,
    Forbidden,
    RateLimited,
    RegistryUnavailable,
    VolumeFull,
)
from shared.pulls.steps import pull_lease
from shared.pulls.steps.outcomes import NotWanted, Paused, TryAgain
from tests.fakes.faults import Stall
from tests.integration.pulls.meeting import DIGEST, LAYER, Meeting
from tests.support.driver import Driver
from tests.support.waiting import wait_until

# Gives the lease to another process.
OVERTAKE = "UPDATE {table} SET owner = 'other', fence = nextval('fences')"
EXPIRE = "UPDATE leases SET expires_at = now() - interval '1 minute'"


def test_an_overtaken_owner_stops_and_the_new_owner_continues_with_its_bytes(
    meeting: Meeting, second: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting.begin()
    # As in a process that was stopped: no lease is renewed, and the bytes stay in the ingest.
    renewer = meeting.driver.resources.renewer
    monkeypatch.setattr(renewer, "_renew_downloads", lambda downloads: None)
    second.change(EXPIRE)
    expired_and_young = "SELECT now() - pg_postmaster_start_time() > interval '3 s'"
    wait_until(lambda: second.sql(expired_and_young) == [(True,)])
    second.fetch_once("leader", DIGEST)
    assert second.blobs()[str(DIGEST)] == LAYER
    requests = meeting.registry.asked("blobs/" + str(DIGEST))
    overlap = sum(request.sent for request in requests) - len(LAYER)
    assert overlap < 1024 * 1024

    monkeypatch.undo()
    meeting.hold.set()
    meeting.wait_for_leader()
    assert meeting.raised == []
    assert second.blobs()[str(DIGEST)] == LAYER
    assert not any(path.is_file() for path in (second.volume / "ingest").rglob("*"))


@pytest.mark.parametrize(
    "error",
    [
        Forbidden("no"),
        DigestMismatch("other bytes"),
        RegistryUnavailable("away"),
        RateLimited("slowly", None, 60.0),
        VolumeFull("no room"),
        ZeroDivisionError(),
        Paused("the fleet is paused"),
        NotWanted("no pull wants it"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_attempt_that_lost_its_lease_ends_and_delays_no_pull(
    first: Driver,
    second: Driver,
    meeting: Meeting,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    for pull_id in ("leader", "waiting"):
        meeting.plan(pull_id)

    def overtaken(*_: object) -> None:
        second.change(OVERTAKE.format(table="leases"))
        raise error

    monkeypatch.setattr(first.resources.volume, "adopt", overtaken)
    before = rows(second)
    first.fetch("leader", DIGEST)
    assert rows(second) == before
    assert second.sql("SELECT owner FROM leases") == [("other",)]
    assert first.outbox.ended == []
    assert first.outbox.layers == []


def rows(driver: Driver) -> list[object]:
    """The columns that a failure would change."""
    layers = "pull_id, failures, waiting_for, not_before, generation"
    pulls = "id, state, failures, waiting_for, not_before, error_class"
    return [
        *driver.sql(f"SELECT {layers} FROM pull_layers ORDER BY pull_id"),
        *driver.sql(f"SELECT {pulls} FROM pulls ORDER BY id"),
    ]


@pytest.mark.parametrize(
    "error",
    [Forbidden("no"), RegistryUnavailable("away"), ZeroDivisionError()],
    ids=lambda error: type(error).__name__,
)
def test_a_step_that_lost_its_lease_ends_and_delays_no_pull(
    first: Driver,
    second: Driver,
    meeting: Meeting,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def overtaken(*_: object) -> None:
        second.change(OVERTAKE.format(table="step_leases"))
        raise error

    monkeypatch.setattr(first.resources.registry, "manifest", overtaken)
    asked = {"reference": f"{meeting.registry.host}/a:1", "platform": "linux/amd64"}
    assert first.plan("p", asked) is None
    row = second.row("p")
    assert (row.state, row.error_class, row.waiting_for) == ("resolving", None, None)
    assert second.sql("SELECT failures, not_before FROM pulls") == [(0, None)]
    assert second.sql("SELECT owner FROM step_leases") == [("other",)]
    assert first.outbox.ended == []


def test_a_step_whose_heartbeat_found_the_lease_lost_writes_nothing(
    first: Driver, second: Driver, meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, manifest = first.resources.renewer, first.resources.registry.manifest

    def overtaken(*arguments: Any) -> Any:
        second.change(OVERTAKE.format(table="step_leases"))
        (step,) = keeper._steps.values()
        wait_until(lambda: step.is_lost)
        return manifest(*arguments)

    monkeypatch.setattr(first.resources.registry, "manifest", overtaken)
    asked = {"reference": f"{meeting.registry.host}/a:1", "platform": "linux/amd64"}
    assert first.plan("p", asked) is None
    assert second.row("p").state == "resolving"
    assert second.sql("SELECT count(*) FROM manifests") == [(0,)]
    assert second.blobs() == {}


def test_a_step_that_was_stopped_renews_its_lease_before_it_writes(
    first: Driver, second: Driver, meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, manifest = first.resources.renewer, first.resources.registry.manifest

    def stopped(*arguments: Any) -> Any:
        second.change(OVERTAKE.format(table="step_leases"))
        for step in keeper._steps.values():
            step.renewed_at -= first.resources.settings.lease_seconds
        return manifest(*arguments)

    monkeypatch.setattr(first.resources.registry, "manifest", stopped)
    # The heartbeat thread of this process has not run since.
    monkeypatch.setattr(keeper, "_run_round", lambda *_: None)
    asked = {"reference": f"{meeting.registry.host}/a:1", "platform": "linux/amd64"}
    assert first.plan("p", asked) is None
    assert second.sql("SELECT count(*) FROM manifests") == [(0,)]
    assert second.sql("SELECT owner FROM step_leases") == [("other",)]


def test_a_lease_is_renewed_while_its_download_shows_signs_of_life(meeting: Meeting) -> None:
    meeting.begin()
    before = meeting.lease("expires_at")
    wait_until(lambda: meeting.lease("expires_at") != before)


def test_a_layer_that_kills_its_workers_ends_every_pull_that_wants_it(
    first: Driver, meeting: Meeting
) -> None:
    for pull_id in ("one", "two"):
        meeting.plan(pull_id)
    first.sql("SELECT 1")
    first.change(
        "INSERT INTO leases (registry, digest, owner, pull_id, fence, expires_at, bytes_total,"
        " starts_without_progress) SELECT registry, digest, 'dead', 'one', 0, now() - interval"
        " '1 minute', 0, 5 FROM pulls JOIN pull_layers ON pull_id = id LIMIT 1"
    )
    aged = "SELECT now() - pg_postmaster_start_time() > interval '3 s'"
    wait_until(lambda: first.sql(aged) == [(True,)])
    first.fetch_once("two", DIGEST)
    rows = first.sql("SELECT id, state, error_class FROM pulls ORDER BY id")
    assert rows == [("one", "failed", "PoisonLayer"), ("two", "failed", "PoisonLayer")]
    assert sorted(first.outbox.ended) == ["one", "two"]
    # A later pull of it begins with a clean record.
    meeting.plan("three")
    meeting.hold.set()
    first.fetch_once("three", DIGEST)
    assert str(DIGEST) in first.blobs()


def test_a_pull_whose_steps_kill_their_workers_fails(first: Driver, meeting: Meeting) -> None:
    first.change(
        "INSERT INTO step_leases VALUES ('pull/poison', 'dead', 0, now() - interval '1 s', 5)"
    )
    asked = {"reference": f"{meeting.registry.host}/a:1", "platform": "linux/amd64"}
    with pytest.raises(Exception, match="ended its worker 6 times"):
        first.plan("poison", asked)
    assert first.row("poison").error_class == "PoisonLayer"


def test_a_poison_pull_whose_lease_was_taken_over_ends_in_silence(
    first: Driver, second: Driver, meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    first.change(
        "INSERT INTO step_leases VALUES ('pull/poison', 'dead', 0, now() - interval '1 s', 5)"
    )

    def overtaken(*arguments: Any, **named: Any) -> bool:
        second.change(OVERTAKE.format(table="step_leases"))
        return fail(*arguments, **named)

    fail = finish.fail
    # The other process takes the lease just before the failure is recorded.
    monkeypatch.setattr(finish, "fail", overtaken)
    monkeypatch.setattr(pull_lease, "MOST_DEAD_OWNERS", 0)
    asked = {"reference": f"{meeting.registry.host}/a:1", "platform": "linux/amd64"}
    assert first.plan("poison", asked) is None
    assert second.row("poison").error_class is None


def test_a_lease_whose_commit_broke_the_connection_is_released(
    first: Driver, meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting.plan("p")
    meeting.hold.set()
    begin, taken = first.resources.catalog.begin, False

    def take(*arguments: Any, **named: Any) -> Any:
        nonlocal taken
        taken = True
        return leases_take(*arguments, **named)

    @contextmanager
    def breaking() -> Iterator[Connection]:
        with begin() as tx:
            yield tx
        if taken:
            raise CatalogUnavailable("The connection was lost at the end of the transaction.")

    leases_take = leases.take
    monkeypatch.setattr(leases, "take", take)
    monkeypatch.setattr(type(first.resources.catalog), "begin", lambda _self: breaking())
    with pytest.raises(TryAgain):
        first.fetch_once("p", DIGEST)
    monkeypatch.undo()
    assert first.sql("SELECT owner FROM leases") == [(None,)]
    first.fetch_once("p", DIGEST)
    assert str(DIGEST) in first.blobs()


def test_a_digest_may_be_fetched_from_two_registries_at_once_and_the_first_wins(
    meeting: Meeting, second: Driver, registry: object
) -> None:
    with type(meeting.registry)() as other:
        other.put_image("c", "1", [LAYER])
        meeting.begin()
        asked = {"reference": f"{other.host}/c:1", "platform": "linux/amd64"}
        assert second.plan("elsewhere", asked) is not None
        second.fetch_once("elsewhere", DIGEST)
        assert second.blobs()[str(DIGEST)] == LAYER
    # The heartbeat stops the slower download, whose registry is still silent.
    meeting.wait_for_leader()
    assert meeting.raised == []
    assert second.link("leader") is not None
    assert second.sql("SELECT count(*) FROM leases") == [(0,)]


def test_a_process_that_shuts_down_releases_its_lease(meeting: Meeting, second: Driver) -> None:
    hold = threading.Event()
    meeting.begin()
    meeting.registry.fail(Stall(path=str(DIGEST), after_bytes=0, times=0, until=hold))
    meeting.driver.resources.renewer.is_shutting_down = lambda: True
    meeting.wait_for_leader()
    assert [type(error).__name__ for error in meeting.raised] == ["ShuttingDown"]
    assert meeting.lease("owner") is None
    second.fetch_once("leader", DIGEST)
    receipt = second.link("leader")
    assert receipt is not None
    assert receipt["bytes_fetched"] == len(LAYER)
