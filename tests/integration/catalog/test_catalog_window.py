"""How many messages may be under way, and what counts as one."""

from typing import Any

import pytest

from shared.catalog import admission, blobs, ends, fleet, pauses, pull_layers, pulls
from shared.catalog.database import Connection
from tests.integration.catalog.given import of
from tests.integration.catalog.given_pulls import (
    BASE,
    OTHER_HOST,
    TOP,
    admitted,
    fetching,
    record,
)

pytestmark = pytest.mark.integration


def backlog(tx: Connection, count: int = 100, **asked: Any) -> None:
    """So many wait for their turn."""
    for number in range(count):
        record(tx, f"{asked} {number}", **asked)


@pytest.mark.parametrize(
    ("slots", "window"),
    [(None, 64), (0, 16), (3, 16), (5, 20)],
    ids=["nobody has counted", "no worker", "few", "some"],
)
def test_the_window_is_four_messages_a_slot(tx: Connection, slots: int | None, window: int) -> None:
    fleet.count_slots(tx, slots, None)
    backlog(tx)
    assert len(admission.admit(tx)) == window
    assert admission.admit(tx) == []


def test_urgent_pulls_get_a_quarter_on_top(tx: Connection) -> None:
    fleet.count_slots(tx, 4, None)
    backlog(tx, 30)
    assert len(admission.admit(tx)) == 16
    backlog(tx, 30, priority=admission.URGENT_PRIORITY)
    assert len(admission.admit(tx)) == 4
    assert admission.admit(tx) == []


def test_urgent_pulls_take_the_window_and_the_quarter_in_one_go(tx: Connection) -> None:
    fleet.count_slots(tx, 4, None)
    backlog(tx, 30)
    backlog(tx, 30, priority=9)
    assert len(admission.admit(tx)) == 20
    assert admission.admit(tx) == []


def free_places(tx: Connection) -> int:
    """How many of the sixteen places are left, as seen by those who wait."""
    fleet.count_slots(tx, 4, None)
    backlog(tx, 20)
    return len(admission.admit(tx))


def test_a_distinct_layer_from_a_registry_takes_one_place(tx: Connection) -> None:
    fetching(tx, "a", [BASE, TOP])
    fetching(tx, "b", [BASE, TOP])
    fetching(tx, "elsewhere", [BASE], registry=OTHER_HOST)
    assert free_places(tx) == 16 - 3


def test_what_is_stored_or_has_ended_takes_no_place(tx: Connection) -> None:
    fetching(tx, "a", [BASE, TOP])
    blobs.store_layer(tx, BASE, 100)
    fetching(tx, "ended", [of("another")])
    ends.fail(tx, "ended", "A", None, "b")
    admitted(tx, "cancelled")
    ends.cancel(tx, "cancelled", "Enough.")
    assert free_places(tx) == 16 - 1


def test_a_pull_without_a_plan_takes_one_place(tx: Connection) -> None:
    admitted(tx, "queued")
    admitted(tx, "resolving")
    pulls.start(tx, "resolving", "linux/amd64")
    assert free_places(tx) == 16 - 2


def test_what_waits_for_a_far_time_takes_no_place(tx: Connection) -> None:
    admitted(tx, "far")
    pulls.wait(tx, "far", "rate_limit", 3600, "The registry asked for an hour.")
    admitted(tx, "near")
    pulls.wait(tx, "near", "backoff", 2, "later")
    fetching(tx, "layers", [BASE, TOP])
    pull_layers.wait(tx, "layers", BASE, "rate_limit", 3600, "The registry asked for an hour.")
    pull_layers.wait(tx, "layers", TOP, "backoff", 2, "later")
    assert free_places(tx) == 16 - 2


def test_what_waits_for_space_keeps_its_place(tx: Connection) -> None:
    for number in range(5):
        admitted(tx, f"large {number}")
        pulls.wait(tx, f"large {number}", "space", 3600, "The volume is full.")
    assert free_places(tx) == 16 - 5


def test_the_paused_take_no_place(tx: Connection) -> None:
    fetching(tx, "layers", [BASE, TOP], requested_by="ci")
    admitted(tx, "no plan yet", requested_by="ci")
    pauses.pause(tx, "requester", "ci")
    assert free_places(tx) == 16


def test_a_window_that_has_become_smaller_admits_nobody(tx: Connection) -> None:
    backlog(tx)
    assert len(admission.admit(tx)) == 64
    fleet.count_slots(tx, 1, None)
    assert admission.admit(tx) == []
