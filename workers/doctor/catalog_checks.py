"""Checks of the database, the reconciler, and the promise that no pull is lost or stuck."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from celery import Celery

from shared.catalog.admission import pauses
from shared.catalog.database.catalog import Catalog
from shared.catalog.reports import doctor_checks, queue_position
from shared.catalog.reports.doctor_checks import MOST_PULLS, UnattendedPull
from shared.catalog.schema.revision import check
from shared.errors import CatalogUnavailable, InvalidArgument
from shared.settings import Settings
from workers.broker_messages import BrokerMessages, Messages
from workers.client import QueueUnavailable
from workers.doctor.finding import CheckResult, counted, finding

_OLDEST_SERVER = 150000
_CLOCKS_APART_SECONDS = 2.0
_UNANSWERED_SECONDS = 60.0

# The reconciler renews an expired reason within a round or two.
_REASON_GRACE_SECONDS = 10.0
# A pull that seems unattended is checked once more: it may have been changing hands.
_SECOND_LOOK_SECONDS = 3.0
# After a loss or restart of Redis, the reconciler answers the pulls of the last hour again. It
# starts with that in its first round, and answers them in the next rounds, 500 in each. These are
# three of its longest pauses.
_ANSWER_LOOKS = 6


def database(catalog: Catalog) -> CheckResult:
    """Whether the database answers, accepts writes, and is new enough."""
    began = time.monotonic()
    try:
        with catalog.begin() as tx:
            server = doctor_checks.server(tx)
    except CatalogUnavailable as error:
        return CheckResult("database", "problem", str(error))
    milliseconds = (time.monotonic() - began) * 1000
    version = f"PostgreSQL {server.version_number // 10000}.{server.version_number % 10000}"
    if server.version_number < _OLDEST_SERVER:
        return CheckResult(
            "database", "problem", f"{version} is too old: upgrade it to 15 or newer."
        )
    if server.read_only:
        return CheckResult(
            "database",
            "problem",
            f"{version} is read-only, so no pull continues. If TOWLINE_DATABASE_URL leads to a "
            "standby, promote it or set the URL to the primary; if its disk is full, free it.",
        )
    return CheckResult("database", "ok", f"{version} answers in {milliseconds:.0f} ms.")


def schema(catalog: Catalog) -> CheckResult:
    """Whether this version of towline can work on the schema."""
    try:
        check(catalog)
    except (InvalidArgument, CatalogUnavailable) as error:
        return CheckResult("schema", "problem", str(error))
    return CheckResult("schema", "ok", "This version can work on the schema.")


def clock(catalog: Catalog) -> CheckResult:
    """This machine's clock against the database's, which decides when leases expire."""
    before = datetime.now(UTC)
    with catalog.begin() as tx:
        server_now = doctor_checks.server(tx).now
    after = datetime.now(UTC)
    # The server read its clock at some time between the two.
    apart = max((before - server_now).total_seconds(), (server_now - after).total_seconds(), 0.0)
    if apart > _CLOCKS_APART_SECONDS:
        return CheckResult(
            "clock",
            "warning",
            f"This machine's clock and the database's are {apart:.1f} s apart. Leases use the "
            "database's clock, but logs and certificates do not: synchronise the clocks.",
        )
    return CheckResult(
        "clock", "ok", f"This machine's clock and the database's agree within {apart:.1f} s."
    )


def reconciler(catalog: Catalog) -> CheckResult:
    """Whether a reconciler is running, that is, holds the leader's lease."""
    with catalog.begin() as tx:
        leader = queue_position.leading_reconciler(tx)
    if leader is None:
        return CheckResult(
            "reconciler",
            "problem",
            "No reconciler is running, so nothing that is lost is sent again: start "
            "`towline reconcile`.",
        )
    return CheckResult("reconciler", "ok", f"The leading reconciler is {leader}.")


def check_pauses(catalog: Catalog) -> Iterator[CheckResult]:
    """Everything that an operator has paused and may have forgotten."""
    with catalog.begin() as tx:
        active = pauses.listing(tx)
    for pause in active:
        subject = pause.subject
        yield CheckResult(
            "pauses",
            "warning",
            f"{subject[0].upper()}{subject[1:]} has been paused since "
            f"{pause.paused_at.astimezone():%Y-%m-%d %H:%M:%S}: to resume, run "
            f"`{pause.command}`.",
        )


def check_pulls(catalog: Catalog, app: Celery | None, settings: Settings) -> CheckResult:
    """Whether every open pull has a live lease, a message, or a reason to wait with a time.

    With `app` None the queue cannot be reached, and messages do not count.
    """
    lost = _lost(catalog, app)
    if lost:
        time.sleep(_SECOND_LOOK_SECONDS)
        # A pull that was sent again in between has another generation.
        again = {(pull.pull_id, pull.generation) for pull in _lost(catalog, app)}
        lost = [pull for pull in lost if (pull.pull_id, pull.generation) in again]
    with catalog.begin() as tx:
        total = doctor_checks.count_open(tx)
    if lost:
        are = "is" if len(lost) == 1 else "are"
        return finding(
            "pulls",
            "problem",
            f"{counted(len(lost), 'open pull', most=MOST_PULLS)} {are} without a live "
            "lease, a message or a valid reason to wait. The reconciler sends them again: start "
            "`towline reconcile` if none is running.",
            [f"{pull.pull_id} {pull.state} {pull.reference}" for pull in lost],
        )
    if not total:
        return CheckResult("pulls", "ok", "No pull is open.")
    has = "has" if total == 1 else "each have"
    return CheckResult(
        "pulls",
        "ok",
        f"{counted(total, 'open pull')} {has} a live lease, a message or a reason to wait.",
    )


def _lost(catalog: Catalog, app: Celery | None) -> list[UnattendedPull]:
    with catalog.begin() as tx:
        found = doctor_checks.unattended(tx, _REASON_GRACE_SECONDS)
    if not found or app is None:
        return found
    backlog = BrokerMessages(app)
    digests = frozenset[str]().union(*(pull.digests for pull in found))
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


def answered(catalog: Catalog, *, queue_is_away: bool = False) -> CheckResult:
    """Whether every pull that has ended was answered.

    A pull is a problem only if it stays unanswered while a reconciler has time to answer it.
    Without a reconciler or the queue there is nothing to wait for.
    """
    silent = _unanswered(catalog)
    for _ in range(_ANSWER_LOOKS):
        if not silent or queue_is_away or reconciler(catalog).level != "ok":
            break
        time.sleep(_SECOND_LOOK_SECONDS)
        again = set(_unanswered(catalog))
        silent = [pull_id for pull_id in silent if pull_id in again]
    if silent:
        have = "has" if len(silent) == 1 else "have"
        return finding(
            "answers",
            "problem",
            f"{counted(len(silent), 'pull', most=MOST_PULLS)} {have} ended more than a "
            "minute ago without an answer to the caller. The reconciler answers once Redis accepts "
            "writes: check Redis, and that `towline reconcile` runs.",
            silent,
        )
    return CheckResult("answers", "ok", "Every pull that has ended was answered.")


def _unanswered(catalog: Catalog) -> list[str]:
    with catalog.begin() as tx:
        return doctor_checks.unanswered(tx, _UNANSWERED_SECONDS)


def failures(catalog: Catalog) -> Iterator[CheckResult]:
    """Failed pulls that were not tried again, by error class."""
    with catalog.begin() as tx:
        classes = doctor_checks.failures(tx)
    total = sum(failure.count for failure in classes)
    newest = f"Of the newest {total:,} failures: " if total == doctor_checks.MOST_FAILURES else ""
    for failure in classes:
        yield CheckResult(
            "failures",
            "information",
            f"{newest}{counted(failure.count, 'pull')} failed with {failure.error_class}: once the "
            f"cause is gone, run `towline retry --failed --error-class {failure.error_class}`.",
            [f"the latest: {failure.newest_message}"],
        )
