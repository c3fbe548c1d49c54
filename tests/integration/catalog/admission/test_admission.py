"""Admission: priority, then the requester with the fewest admitted pulls, then age."""

from typing import Any

import pytest

from shared.catalog.admission import pauses, recording, registry_holds, waiting_pulls
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import fleet_slots
from shared.catalog.model.pull_values import NewPull
from shared.catalog.pulls import finish, lifecycle
from tests.builders.images import PLATFORM, TAG, image, link, rows, together
from tests.builders.pulls import HOST, OTHER_HOST, admit, admitted, change, fetching, record, row

# The size of the window of four slots.
WINDOW = 16


def slots(tx: Connection, count: int | None = 4) -> None:
    """The fleet can fetch `count` layers at once."""
    fleet_slots.count_slots(tx, count, 2)


def fill(tx: Connection, count: int) -> None:
    """Take `count` places of the window, for a requester that no other pull has."""
    for number in range(count):
        admitted(tx, f"under way {number}", requested_by="other")


def fill_while_held(tx: Connection) -> None:
    """More pulls wait than the window holds, and their registry is on hold."""
    slots(tx)
    for number in range(WINDOW * 2):
        record(tx, f"held {number}", age_minutes=60)
    registry_holds.hold(tx, HOST, 3600, "The registry asked for an hour.")


def in_turn(tx: Connection) -> list[str]:
    """The order in which pulls are admitted when one place is free at a time."""
    order: list[str] = []
    fill(tx, WINDOW - 1)
    while pull_ids := admit(tx):
        order += pull_ids
        tx.exec_driver_sql("UPDATE pulls SET state = 'complete' WHERE id = ANY(%s)", (pull_ids,))
    return order


def test_priority_comes_first_then_age(tx: Connection) -> None:
    slots(tx)
    for pull_id, priority, age in (
        ("young", 5, 1),
        ("old", 5, 9),
        ("urgent", 7, 0),
        ("patient", 0, 99),
    ):
        record(tx, pull_id, priority=priority, age_minutes=age)
    assert in_turn(tx) == ["urgent", "old", "young", "patient"]


def test_a_requester_of_few_pulls_does_not_wait_behind_a_requester_of_many(tx: Connection) -> None:
    slots(tx)
    for number in range(50):
        record(tx, f"many {number}", requested_by="many", age_minutes=60)
    for number in range(2):
        record(tx, f"few {number}", requested_by="few")
    fill(tx, WINDOW - 4)
    first = admit(tx)
    assert len(first) == 4
    assert {"few 0", "few 1"} < set(first)


def test_pulls_that_a_requester_has_under_way_count_against_its_share(tx: Connection) -> None:
    slots(tx)
    fill(tx, WINDOW - 4)
    for number in range(3):
        admitted(tx, f"running {number}", requested_by="busy")
    record(tx, "of the busy", requested_by="busy", age_minutes=60)
    record(tx, "without requester", requested_by=None)
    assert admit(tx) == ["without requester"]


def test_priority_goes_before_the_share_of_the_requester(tx: Connection) -> None:
    slots(tx)
    fill(tx, WINDOW - 4)
    for number in range(3):
        admitted(tx, f"running {number}", requested_by="busy")
    record(tx, "of the busy", requested_by="busy", priority=6)
    record(tx, "of the idle", requested_by="idle")
    assert admit(tx) == ["of the busy"]


def test_an_admitted_pull_is_dispatched_and_no_longer_waits(tx: Connection) -> None:
    before = record(tx)
    assert admit(tx) == ["p"]
    after = row(tx)
    assert (after.state, after.generation) == ("queued", before.generation + 1)
    assert None not in {after.admitted_at, after.dispatched_at}
    assert after.waiting_for is None
    assert admit(tx) == []


def test_only_queued_pulls_are_admitted(tx: Connection) -> None:
    record(tx, "failed")
    finish.fail(tx, "failed", "A", None, "b")
    fetching(tx, "fetching")
    assert admit(tx) == []


@pytest.mark.parametrize(
    ("scope", "name"), [("fleet", ""), ("registry", HOST), ("requester", "ci")]
)
def test_a_paused_pull_is_not_admitted(tx: Connection, scope: str, name: str) -> None:
    record(tx, requested_by="ci", priority=9)
    pauses.pause(tx, scope, name)
    assert admit(tx) == []
    pauses.resume(tx, scope, name)
    assert admit(tx) == ["p"]


def test_paused_pulls_are_skipped_however_many_there_are(tx: Connection) -> None:
    slots(tx)
    for number in range(WINDOW * 2):
        record(tx, f"paused {number}", age_minutes=60)
    record(tx, "elsewhere", registry=OTHER_HOST)
    pauses.pause(tx, "registry", HOST)
    assert admit(tx) == ["elsewhere"]


def test_processes_that_admit_at_once_admit_each_pull_once_and_fill_the_window_once(
    catalog: Catalog,
) -> None:
    with catalog.begin() as tx:
        slots(tx)
        for number in range(WINDOW * 3):
            record(tx, f"{number}")
    pull_ids: list[str] = []

    def admit_some() -> None:
        with catalog.begin() as tx:
            pull_ids.extend(admit(tx))

    together([admit_some] * 8)
    assert len(pull_ids) == len(set(pull_ids)) == WINDOW
    with catalog.begin() as tx:
        under_way = "SELECT count(*) FROM pulls WHERE admitted_at IS NOT NULL"
        assert rows(tx, under_way) == [(WINDOW,)]


def test_pulls_of_a_registry_that_asked_to_wait_are_not_admitted_until_then(
    tx: Connection,
) -> None:
    slots(tx)
    for number in range(WINDOW * 2):
        record(tx, f"held {number}", age_minutes=60)
    record(tx, "elsewhere", registry=OTHER_HOST)
    registry_holds.hold(tx, HOST, 3600, "The registry asked for an hour.")
    registry_holds.hold(tx, HOST, 60, "Another pull heard of a minute.")
    assert admit(tx) == ["elsewhere"]
    assert rows(tx, "SELECT detail FROM registry_holds") == [("The registry asked for an hour.",)]
    tx.exec_driver_sql("UPDATE registry_holds SET until = now() - interval '1 second'")
    assert len(admit(tx)) == WINDOW - 1


@pytest.mark.parametrize(("policy", "is_admitted"), [("always", False), ("if-missing", True)])
def test_a_pull_that_may_need_no_registry_does_not_wait_for_one(
    tx: Connection, policy: str, is_admitted: bool
) -> None:
    registry_holds.hold(tx, HOST, 3600, "The registry asked for an hour.")
    new = NewPull("new", TAG, "linux/amd64", policy=policy, registry=HOST, repository="team/app")
    pull = recording.arrive(tx, new, PLATFORM)
    assert pull is not None
    assert (pull.admitted_at is not None) is is_admitted


@pytest.mark.parametrize(
    ("asked", "is_admitted"),
    [
        ({}, True),
        ({"platform": None}, True),
        ({"policy": "always"}, False),
        ({"platform": "linux/arm64"}, False),
        ({"reference": f"{TAG}2"}, False),
    ],
)
def test_a_pull_of_an_image_that_is_here_does_not_wait_behind_others(
    tx: Connection, asked: dict[str, Any], is_admitted: bool
) -> None:
    link(tx, image("base"))
    fill_while_held(tx)
    arguments = {"reference": TAG, "platform": "linux/amd64", "policy": "if-missing"} | asked
    for way in ("sent by name", "recorded first"):
        new = NewPull(way, registry=HOST, **arguments)
        if way == "sent by name":
            pull = recording.arrive(tx, new, PLATFORM)
        else:
            lifecycle.record(tx, new)
            pull = recording.admit_alone(tx, way, PLATFORM) or lifecycle.get(tx, way)
        assert pull is not None
        assert (pull.admitted_at is not None) is is_admitted, way


def test_a_pull_of_an_image_without_one_of_its_layers_waits_behind_others(tx: Connection) -> None:
    link(tx, image(["base", "top"]))
    fill_while_held(tx)
    tx.exec_driver_sql(
        "UPDATE blobs SET stored_at = NULL WHERE digest IN (SELECT digest FROM layers LIMIT 1)"
    )
    new = NewPull("new", TAG, PLATFORM, policy="if-missing", registry=HOST)
    pull = recording.arrive(tx, new, PLATFORM)
    assert pull is not None
    assert pull.admitted_at is None
    assert recording.admit_alone(tx, "new", PLATFORM) is None


def test_a_pull_of_an_image_that_is_here_waits_while_it_is_paused(tx: Connection) -> None:
    link(tx, image("base"))
    pauses.pause(tx, "registry", HOST)
    new = NewPull("new", TAG, "linux/amd64", policy="if-missing", registry=HOST)
    pull = recording.arrive(tx, new, PLATFORM)
    assert pull is not None
    assert pull.admitted_at is None


def test_a_pull_that_goes_back_to_waiting_is_admitted_again_at_its_time(tx: Connection) -> None:
    slots(tx)
    admitted(tx)
    waiting_pulls.readmit_later(tx, "p", "rate_limit", 3600, "The registry asked for an hour.")
    pull = row(tx)
    assert (pull.state, pull.admitted_at) == ("queued", None)
    assert pull.waiting_for is not None
    assert pull.waiting_for["cause"] == "rate_limit"
    assert admit(tx) == []
    change(tx, "p", "not_before = now() - interval '1 second'")
    assert admit(tx) == ["p"]


def test_of_thousands_of_requesters_the_oldest_pulls_are_admitted(tx: Connection) -> None:
    slots(tx)
    tx.exec_driver_sql(
        """
        INSERT INTO pulls (id, reference, registry, repository, requested_by, created_at)
        SELECT 'job ' || n, 'registry.example/team/app:1', 'registry.example', 'team/app',
            'job ' || n, now() - make_interval(secs => n) FROM generate_series(1, 3000) AS n
        """
    )
    # They are the oldest, though their requesters are far apart in the index.
    assert sorted(admit(tx)) == sorted(f"job {3000 - n}" for n in range(WINDOW))
