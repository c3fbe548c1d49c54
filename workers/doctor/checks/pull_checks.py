"""Checks of the promise that no pull is lost or stuck, and that each is answered."""

import time
from collections.abc import Iterator

from shared.catalog.reports import doctor_checks
from shared.catalog.reports.doctor_checks import MOST_FAILURES, MOST_PULLS, UnattendedPull
from workers.doctor.check_result import Finding, are, counted, information, ok, problem
from workers.doctor.checked_fleet import CheckedFleet
from workers.doctor.checks.fleet_checks import reconciler
from workers.queues.broker_messages import BrokerMessages, Messages
from workers.queues.queue_access import QueueUnavailable

_UNANSWERED_SECONDS = 60.0

# The reconciler renews an expired reason within a round or two.
_REASON_GRACE_SECONDS = 10.0
# A pull that seems unattended is checked once more: it may have been changing hands.
_SECOND_LOOK_SECONDS = 3.0
# After a loss or restart of Redis, the reconciler answers the pulls of the last hour again, 500 in
# each round. This number of looks lasts as long as three of its longest pauses between rounds.
_ANSWER_LOOKS = 6


def attended(fleet: CheckedFleet) -> Finding:
    """Whether every open pull has a live lease, a message, or a reason to wait with a time.

    While the queue cannot be reached, messages do not count.
    """
    lost = _lost(fleet)
    if lost:
        time.sleep(_SECOND_LOOK_SECONDS)
        # A pull that was sent again in between has another generation.
        again = {(pull.pull_id, pull.generation) for pull in _lost(fleet)}
        lost = [pull for pull in lost if (pull.pull_id, pull.generation) in again]
    with fleet.catalog.begin() as tx:
        total = doctor_checks.count_open(tx)
    if lost:
        return problem(
            f"{counted(len(lost), 'open pull', most=MOST_PULLS)} {are(len(lost))} without a live "
            "lease, a message or a valid reason to wait. The reconciler sends them again: start "
            "`towline reconcile` if none is running.",
            [f"{pull.pull_id} {pull.state} {pull.reference}" for pull in lost],
        )
    if not total:
        return ok("No pull is open.")
    has = "has" if total == 1 else "each have"
    return ok(f"{counted(total, 'open pull')} {has} a live lease, a message or a reason to wait.")


def _lost(fleet: CheckedFleet) -> list[UnattendedPull]:
    with fleet.catalog.begin() as tx:
        found = doctor_checks.unattended(tx, _REASON_GRACE_SECONDS)
    if not found:
        return []
    digests = frozenset[str]().union(*(pull.digests for pull in found))
    backlog = BrokerMessages(fleet.app)
    try:
        messages = backlog.read({pull.pull_id for pull in found}, digests)
    except QueueUnavailable:
        return found
    finally:
        backlog.close()
    return [pull for pull in found if not _has_message(pull, messages)]


def _has_message(pull: UnattendedPull, messages: Messages) -> bool:
    if pull.pull_id in messages.coordinators | messages.links:
        return True
    # A layer is fetched for every pull that wants it, whichever pull its message belongs to.
    return any(digest in pull.digests for _, digest in messages.layers)


def answered(fleet: CheckedFleet) -> Finding:
    """Whether every pull that has ended was answered.

    A pull is a problem only if it stays unanswered while a reconciler has time to answer it.
    Without a reconciler or the queue there is nothing to wait for.
    """
    silent = _unanswered(fleet)
    for _ in range(_ANSWER_LOOKS):
        if not silent or fleet.redis is None or reconciler(fleet).level != "ok":
            break
        time.sleep(_SECOND_LOOK_SECONDS)
        again = set(_unanswered(fleet))
        silent = [pull_id for pull_id in silent if pull_id in again]
    if not silent:
        return ok("Every pull that has ended was answered.")
    have = "has" if len(silent) == 1 else "have"
    return problem(
        f"{counted(len(silent), 'pull', most=MOST_PULLS)} {have} ended more than a minute ago "
        "without an answer to the caller. The reconciler answers once Redis accepts writes: check "
        "Redis, and that `towline reconcile` runs.",
        silent,
    )


def _unanswered(fleet: CheckedFleet) -> list[str]:
    with fleet.catalog.begin() as tx:
        return doctor_checks.unanswered(tx, _UNANSWERED_SECONDS)


def failures(fleet: CheckedFleet) -> Iterator[Finding]:
    """How many pulls failed and were not tried again, by error class."""
    with fleet.catalog.begin() as tx:
        classes = doctor_checks.failures(tx)
    total = sum(failure.count for failure in classes)
    newest = f"Of the newest {total:,} failures: " if total == MOST_FAILURES else ""
    for failure in classes:
        yield information(
            f"{newest}{counted(failure.count, 'pull')} failed with {failure.error_class}: once the "
            f"cause is gone, run `towline retry --failed --error-class {failure.error_class}`.",
            [f"the latest: {failure.newest_message}"],
        )
