"""What the class of an error means for the step that it ends."""

import inspect

import pytest

from shared import errors
from shared.pulls.steps.outcomes import (
    LeaseLost,
    NodeSick,
    NotWanted,
    Outcome,
    Paused,
    ShuttingDown,
    StoredElsewhere,
    TryAgain,
    may_be_the_node,
    outcome_of,
)

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
PERMANENT = [kind for kind in TREE if issubclass(kind, errors.PermanentError)]
COUNTED = {
    errors.TransientError,
    errors.RegistryUnavailable,
    errors.HostIsDead,
    errors.RateLimited,
    errors.BlobTruncated,
    errors.DigestMismatch,
    errors.SizeMismatch,
    errors.VolumeUnavailable,
    errors.InternalError,
}


@pytest.mark.parametrize("kind", PERMANENT, ids=lambda kind: kind.__name__)
def test_a_permanent_error_fails_the_pull(kind: type[errors.TowlineError]) -> None:
    assert outcome_of(kind("sentence")) is Outcome.FAIL


def test_every_transient_error_has_an_outcome_that_was_decided() -> None:
    transient = {kind for kind in TREE if issubclass(kind, errors.TransientError)}
    others = {
        errors.HeldBack: Outcome.POSTPONE,
        errors.VolumeFull: Outcome.POSTPONE,
        errors.CatalogUnavailable: Outcome.OUTAGE,
    }
    expected = dict.fromkeys(COUNTED, Outcome.COUNT) | others
    assert {kind: outcome_of(kind("sentence")) for kind in transient} == expected


@pytest.mark.parametrize("kind", [NotWanted, Paused, StoredElsewhere, ShuttingDown, NodeSick])
def test_a_stop_from_outside_releases_the_leases(kind: type[Exception]) -> None:
    assert outcome_of(kind("sentence")) is Outcome.RELEASE


def test_a_lost_lease_leaves_everything_to_its_new_owner() -> None:
    assert outcome_of(LeaseLost("sentence")) is Outcome.NOTHING


def test_an_exception_that_was_not_foreseen_is_counted_and_the_end_of_the_process_is_not() -> None:
    assert outcome_of(ZeroDivisionError()) is Outcome.COUNT
    assert outcome_of(SystemExit(1)) is outcome_of(KeyboardInterrupt()) is Outcome.RELEASE


def test_a_node_is_not_probed_for_what_a_registry_answered() -> None:
    answered = [errors.RateLimited("slow"), errors.DigestMismatch("a", "b")]
    assert not any(map(may_be_the_node, answered))
    assert may_be_the_node(errors.RegistryUnavailable("away"))


def test_only_a_long_wait_for_a_failure_leaves_the_memory_of_a_worker() -> None:
    cause = errors.RegistryUnavailable("away")
    assert TryAgain(15.0, cause).in_memory
    assert not TryAgain(15.1, cause).in_memory
    assert TryAgain(30.0, at_most_once=True).in_memory
