"""Pulls that waited for a failed attempt of another pull: counted and made to wait."""

from typing import Any

from shared.catalog.database.catalog import Connection
from shared.catalog.layers import pull_layers, shared_failures
from shared.catalog.pulls import finish
from tests.builders.images import rows
from tests.builders.pulls import BASE, OTHER_HOST, TOP, fetching, layer


def share(tx: Connection, seconds: float = 60, *, whole_registry: bool = False) -> dict[str, int]:
    """Fail an attempt of `leader`. Returns the failures of the pulls that it counts against."""
    return dict(
        shared_failures.share(
            tx,
            "leader",
            BASE,
            cause="rate_limit" if whole_registry else "backoff",
            detail="The registry is away.",
            seconds=seconds,
            whole_registry=whole_registry,
        )
    )


def waiting(tx: Connection, pull_id: str) -> Any:
    """The cause that the layer of a pull waits for, and its failures."""
    found = layer(tx, pull_id=pull_id)
    return (found.waiting_for or {}).get("cause"), found.failures


def test_a_failed_attempt_counts_against_the_pulls_that_waited_for_it(tx: Connection) -> None:
    fetching(tx, "leader")
    fetching(tx, "same")
    assert share(tx) == {"same": 1}
    assert waiting(tx, "same") == ("backoff", 1)
    assert waiting(tx, "leader") == (None, 0)
    same = layer(tx, pull_id="same")
    assert same.waiting_for is not None
    assert (same.waiting_for["detail"], set(same.waiting_for)) == (
        "The registry is away.",
        {"cause", "until", "detail"},
    )
    agree = "(waiting_for->>'until')::timestamptz = not_before, not_before > clock_timestamp()"
    statement = f"SELECT {agree} FROM pull_layers WHERE pull_id = 'same'"
    assert rows(tx, statement) == [(True, True)]


def test_failures_in_a_row_add_up(tx: Connection) -> None:
    fetching(tx, "leader")
    fetching(tx, "same")
    assert [share(tx, seconds=0) for _ in range(3)] == [{"same": 1}, {"same": 2}, {"same": 3}]


def test_other_repositories_claims_registries_and_layers_are_not_affected(tx: Connection) -> None:
    fetching(tx, "leader", [BASE, TOP])
    others = ("of another repository", "of another claim", "elsewhere", "ended")
    fetching(tx, others[0], repository="team/other")
    fetching(tx, others[1], size_bytes=101)
    fetching(tx, others[2], registry=OTHER_HOST)
    fetching(tx, others[3])
    finish.fail(tx, others[3], "A", None, "b")
    fetching(tx, "of another layer", [TOP])
    assert share(tx) == {}
    assert [waiting(tx, other) for other in others] == [(None, 0)] * 4
    assert layer(tx, TOP, "of another layer").waiting_for is None
    assert layer(tx, TOP, "leader").waiting_for is None


def test_a_rate_limit_delays_the_whole_registry_and_counts_for_the_same_repository_only(
    tx: Connection,
) -> None:
    fetching(tx, "leader")
    fetching(tx, "same")
    fetching(tx, "of another repository", repository="team/other")
    fetching(tx, "of another claim", size_bytes=101)
    fetching(tx, "elsewhere", registry=OTHER_HOST)
    assert share(tx, whole_registry=True) == {"same": 1}
    assert waiting(tx, "same") == ("rate_limit", 1)
    assert waiting(tx, "of another repository") == ("rate_limit", 0)
    assert waiting(tx, "of another claim") == ("rate_limit", 0)
    assert waiting(tx, "elsewhere") == (None, 0)


def test_a_layer_in_a_longer_wait_is_neither_counted_nor_delayed(tx: Connection) -> None:
    fetching(tx, "leader")
    fetching(tx, "in backoff")
    pull_layers.wait(tx, "in backoff", BASE, "rate_limit", 3600, "The registry asked for an hour.")
    before = layer(tx, pull_id="in backoff")
    assert share(tx) == {}
    assert layer(tx, pull_id="in backoff") == before
    assert share(tx, whole_registry=True) == {}
    assert layer(tx, pull_id="in backoff") == before


def test_a_rate_limit_extends_a_shorter_wait_without_counting_it(tx: Connection) -> None:
    fetching(tx, "leader")
    fetching(tx, "in backoff")
    pull_layers.wait(tx, "in backoff", BASE, "backoff", 2, "later")
    assert share(tx, 3600, whole_registry=True) == {}
    assert waiting(tx, "in backoff") == ("rate_limit", 0)
