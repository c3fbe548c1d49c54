"""The admission window: how many messages may be under way, and what counts as a message."""

from typing import Any

import pytest

from shared.catalog.admission import admission, pauses, waiting_pulls, window
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import fleet_slots
from shared.catalog.layers import pull_layers
from shared.catalog.pulls import finish, lifecycle
from tests.builders.images import of
from tests.builders.pulls import (
    BASE,
    OTHER_HOST,
    TOP,
    admit,
    admitted,
    begin,
    fetching,
    follow,
    record,
    row,
)


def backlog(tx: Connection, count: int = 100, **asked: Any) -> None:
    """Record `count` pulls that wait for their turn."""
    for number in range(count):
        record(tx, f"{asked} {number}", **asked)


@pytest.mark.parametrize(
    ("slots", "window"),
    [(None, 64), (0, 16), (3, 16), (5, 20)],
    ids=["not counted", "no worker", "few", "some"],
)
def test_the_window_is_four_messages_per_slot(
    tx: Connection, slots: int | None, window: int
) -> None:
    fleet_slots.count_slots(tx, slots, None)
    backlog(tx)
    assert len(admit(tx)) == window
    assert admit(tx) == []


def test_urgent_pulls_have_an_additional_quarter_of_the_window(tx: Connection) -> None:
    fleet_slots.count_slots(tx, 4, None)
    backlog(tx, 30)
    assert len(admit(tx)) == 16
    backlog(tx, 30, priority=window.URGENT_PRIORITY)
    assert len(admit(tx)) == 4
    assert admit(tx) == []


def test_one_call_admits_urgent_pulls_into_their_quarter_and_the_window(tx: Connection) -> None:
    fleet_slots.count_slots(tx, 4, None)
    backlog(tx, 30)
    backlog(tx, 30, priority=9)
    assert len(admit(tx)) == 20
    assert admit(tx) == []


def free_places(tx: Connection) -> int:
    """How many of the sixteen places of the window are free: as many waiting pulls are admitted."""
    fleet_slots.count_slots(tx, 4, None)
    backlog(tx, 20)
    return len(admit(tx))


def test_every_layer_with_a_message_takes_a_place_and_followers_take_none(
    tx: Connection,
) -> None:
    fetching(tx, "a", [BASE, TOP])
    for number in range(10):
        follow(tx, f"follower {number}", [BASE, TOP])
    fetching(tx, "elsewhere", [BASE], registry=OTHER_HOST)
    assert free_places(tx) == 16 - 3


def test_plain_pulls_never_fill_the_urgent_part(
    tx: Connection,
) -> None:
    fleet_slots.count_slots(tx, 4, None)
    fetching(tx, "large", [of(f"layer {number}") for number in range(41)])
    backlog(tx, 5)
    backlog(tx, 5, priority=9, registry=OTHER_HOST)
    assert [pull.is_urgent for pull in admission.admit(tx)] == [True] * 4
    assert admit(tx) == []


def test_urgent_messages_beyond_their_part_take_places_of_the_window(tx: Connection) -> None:
    fetching(tx, "urgent", [of(f"layer {number}") for number in range(10)], priority=9)
    # Four of the ten fill the urgent part.
    assert free_places(tx) == 16 - 6


def test_pulls_that_wait_for_space_take_at_most_half_of_the_window(tx: Connection) -> None:
    for number in range(12):
        admitted(tx, f"large {number}")
        lifecycle.wait(tx, f"large {number}", "space", 3600, "The volume is full.")
    assert free_places(tx) == 8


def test_a_pull_without_space_loses_its_place_if_half_of_the_window_waits_for_space(
    tx: Connection,
) -> None:
    fleet_slots.count_slots(tx, 4, None)
    for number in range(9):
        admitted(tx, f"large {number}")
        waiting_pulls.wait_for_space(tx, row(tx, f"large {number}"), 15, "The volume is full.")
    last = row(tx, "large 8")
    assert (last.state, last.admitted_at) == ("queued", None)
    assert last.waiting_for is not None
    assert last.waiting_for["cause"] == "space"
    assert row(tx, "large 7").admitted_at is not None
    # It is not admitted before its time.
    assert admit(tx) == []
    waiting_pulls.wake_for_space(tx)
    assert admit(tx) == ["large 8"]


def test_stored_layers_and_ended_pulls_take_no_place(tx: Connection) -> None:
    fetching(tx, "a", [BASE, TOP])
    stored_blobs.store_layer(tx, BASE, 100)
    fetching(tx, "ended", [of("another")])
    finish.fail(tx, "ended", "A", None, "b")
    admitted(tx, "cancelled")
    finish.cancel(tx, "cancelled", "Enough.")
    assert free_places(tx) == 16 - 1


def test_an_admitted_pull_without_a_plan_takes_a_place(tx: Connection) -> None:
    admitted(tx, "queued")
    admitted(tx, "resolving")
    begin(tx, "resolving")
    assert free_places(tx) == 16 - 2


def test_a_pull_that_waits_for_long_takes_no_place(tx: Connection) -> None:
    admitted(tx, "far")
    lifecycle.wait(tx, "far", "rate_limit", 3600, "The registry asked for an hour.")
    admitted(tx, "near")
    lifecycle.wait(tx, "near", "backoff", 2, "later")
    fetching(tx, "layers", [BASE, TOP])
    pull_layers.wait(tx, "layers", BASE, "rate_limit", 3600, "The registry asked for an hour.")
    pull_layers.wait(tx, "layers", TOP, "backoff", 2, "later", has_message=True)
    assert free_places(tx) == 16 - 2


def test_a_pull_that_waits_for_space_keeps_its_place(tx: Connection) -> None:
    for number in range(5):
        admitted(tx, f"large {number}")
        lifecycle.wait(tx, f"large {number}", "space", 3600, "The volume is full.")
    assert free_places(tx) == 16 - 5


def test_paused_pulls_take_no_place(tx: Connection) -> None:
    fetching(tx, "layers", [BASE, TOP], requested_by="ci")
    admitted(tx, "no plan yet", requested_by="ci")
    pauses.pause(tx, "requester", "ci")
    assert free_places(tx) == 16


def test_a_window_that_became_smaller_than_its_use_admits_no_pull(tx: Connection) -> None:
    backlog(tx)
    assert len(admit(tx)) == 64
    fleet_slots.count_slots(tx, 1, None)
    assert admit(tx) == []
