"""Checks of the database, of the reconciler, and of the promise: no pull is lost or stuck."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from celery import Celery

from shared.catalog import chains, inventory, pauses
from shared.catalog.database import Catalog
from shared.catalog.inventory import Unattended
from shared.catalog.schema import check
from shared.errors import CatalogUnavailable, InvalidArgument
from shared.settings import Settings
from workers.client import QueueUnavailable
from workers.examining.explaining import how_to_resume
from workers.examining.finding import Finding, counted, finding
from workers.reconciling.backlog import Backlog, Messages

_OLDEST_SERVER = 150000
_CLOCKS_APART_SECONDS = 2.0
_UNANSWERED_SECONDS = 60.0

# A reason that ran out is renewed within a round or two of the reconciler.
_REASON_GRACE_SECONDS = 10.0
# Who finds a pull without anything looks once more: it may have been between two hands.
_SECOND_LOOK_SECONDS = 3.0


def database(catalog: Catalog) -> Finding:
    """Whether it answers, and is new enough."""
    began = time.monotonic()
    try:
        with catalog.begin() as tx:
            server = inventory.server(tx)
    except CatalogUnavailable as error:
        return Finding("database", "problem", str(error))
    milliseconds = (time.monotonic() - began) * 1000
    version = f"PostgreSQL {server.version_number // 10000}.{server.version_number % 10000}"
    if server.version_number < _OLDEST_SERVER:
        return Finding("database", "problem", f"{version} is too old: upgrade it to 15 or newer.")
    if server.read_only:
        return Finding(
            "database",
            "problem",
            f"{version} is read-only, so nothing goes on until it can be written to: promote the "
            "standby that TOWLINE_DATABASE_URL leads to, name the primary there, or free its disk.",
        )
    return Finding("database", "ok", f"{version} answers in {milliseconds:.0f} ms.")


def schema(catalog: Catalog) -> Finding:
    """Whether this version knows it."""
    try:
        check(catalog)
    except (InvalidArgument, CatalogUnavailable) as error:
        return Finding("schema", "problem", str(error))
    return Finding("schema", "ok", "The schema is one that this version knows.")


def clock(catalog: Catalog) -> Finding:
    """This machine's against the database's, which all leases go by."""
    before = datetime.now(UTC)
    with catalog.begin() as tx:
        theirs = inventory.server(tx).now
    after = datetime.now(UTC)
    # Theirs was read at some time between the two.
    apart = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0.0)
    if apart > _CLOCKS_APART_SECONDS:
        return Finding(
            "clock",
            "warning",
            f"This machine's clock and the database's are {apart:.1f} s apart: leases go by the "
            "database's, but logs and certificates do not; synchronise them.",
        )
    return Finding(
        "clock", "ok", f"This machine's clock and the database's agree to {apart:.1f} s."
    )


def reconciler(catalog: Catalog) -> Finding:
    """Whether one is in office."""
    with catalog.begin() as tx:
        office = chains.office(tx)
    if office is None or not office.alive:
        return Finding(
            "reconciler",
            "problem",
            "No reconciler is in office, so nothing that is lost is sent again: start "
            "`towline reconcile`.",
        )
    return Finding("reconciler", "ok", f"The reconciler {office.owner} is in office.")


def pauses_standing(catalog: Catalog) -> Iterator[Finding]:
    """What an operator has paused, and may have forgotten."""
    with catalog.begin() as tx:
        standing = pauses.listing(tx)
    for one in standing:
        named = "The fleet" if one.scope == "fleet" else f"The {one.scope} {one.name}"
        yield Finding(
            "pauses",
            "warning",
            f"{named} is paused since {one.paused_at.astimezone():%Y-%m-%d %H:%M:%S}: "
            f"`{how_to_resume(one)}` ends that.",
        )


def attended(catalog: Catalog, app: Celery | None, settings: Settings) -> Finding:
    """Every open pull has a living lease, a message, or a reason with a time. `app` None: the
    queue cannot be asked.
    """
    lost = _lost(catalog, app)
    if lost:
        time.sleep(_SECOND_LOOK_SECONDS)
        again = {(one.pull_id, one.generation) for one in _lost(catalog, app)}
        lost = [one for one in lost if (one.pull_id, one.generation) in again]
    with catalog.begin() as tx:
        total = inventory.count_open(tx)
    if lost:
        are = "is" if len(lost) == 1 else "are"
        return finding(
            "pulls",
            "problem",
            f"{counted(len(lost), 'open pull', most=inventory.MOST_PULLS)} {are} without a living "
            "lease, a message or a reason that holds: a reconciler sends them again, start "
            "`towline reconcile`.",
            [f"{one.pull_id} {one.state} {one.reference}" for one in lost],
        )
    if not total:
        return Finding("pulls", "ok", "No pull is open.")
    has = "has" if total == 1 else "have each"
    return Finding(
        "pulls",
        "ok",
        f"{counted(total, 'open pull')} {has} a living lease, a message or a reason with a time.",
    )


def _lost(catalog: Catalog, app: Celery | None) -> list[Unattended]:
    with catalog.begin() as tx:
        found = inventory.unattended(tx, _REASON_GRACE_SECONDS)
    if not found or app is None:
        return found
    backlog = Backlog(app)
    digests = frozenset[str]().union(*(one.digests for one in found))
    try:
        messages = backlog.read({one.pull_id for one in found}, digests)
    except QueueUnavailable:
        return found
    finally:
        backlog.close()
    return [one for one in found if not _has_message(one, messages)]


def _has_message(pull: Unattended, messages: Messages) -> bool:
    if pull.pull_id in messages.coordinators | messages.links:
        return True
    # A layer's message of any pull is as good.
    return any(digest in pull.digests for _, digest in messages.layers)


def answered(catalog: Catalog) -> Finding:
    """The callers of the pulls that have ended were told."""
    with catalog.begin() as tx:
        silent = inventory.unanswered(tx, _UNANSWERED_SECONDS)
    if silent:
        have = "has" if len(silent) == 1 else "have"
        return finding(
            "answers",
            "problem",
            f"{counted(len(silent), 'pull', most=inventory.MOST_PULLS)} {have} ended more than a "
            "minute ago, and their callers were not told: a reconciler answers, once Redis can be "
            "written to.",
            silent,
        )
    return Finding("answers", "ok", "Every pull that has ended was answered.")


def failures(catalog: Catalog) -> Iterator[Finding]:
    """What failed, by class, and was not tried again."""
    with catalog.begin() as tx:
        classes = inventory.failures(tx)
    looked_at = sum(one.count for one in classes)
    newest = (
        f"Of the newest {looked_at:,} failures: " if looked_at == inventory.MOST_FAILURES else ""
    )
    for one in classes:
        yield Finding(
            "failures",
            "information",
            f"{newest}{counted(one.count, 'pull')} failed with {one.error_class}: `towline retry "
            f"--failed --error-class {one.error_class}` once the cause is gone.",
            [f"the last: {one.newest_message}"],
        )
