"""The checks of `towline doctor`, in the order in which they depend on each other. Reads only."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from shared.errors import CatalogUnavailable, InvalidArgument, VolumeFull, VolumeUnavailable
from workers.doctor.check_result import CheckResult, Finding
from workers.doctor.checked_fleet import CheckedFleet
from workers.doctor.checks import database_checks as database
from workers.doctor.checks import (
    fleet_checks,
    pull_checks,
    redis_checks,
    registry_checks,
    volume_checks,
)
from workers.doctor.volume_proof import Progress, bytes_and_rows, rows

_START_SECONDS = 30.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Check:
    """A question about a fleet. It is asked only if all that it `needs` was found to be well."""

    name: str
    question: str
    run: Callable[[CheckedFleet], Finding | Iterable[Finding]]
    needs: str = ""


CHECKS = (
    Check("database", "Does it answer, accept writes, and is it new enough?", database.server),
    Check("schema", "Can this version of towline work on it?", database.schema, "database"),
    Check("clock", "Do this machine and the database agree?", database.clock, "database"),
    Check("volume", "Is it mounted, and the catalog's?", volume_checks.mounted, "schema"),
    Check("space", "Is there more than running pulls need?", volume_checks.space_left, "volume"),
    Check("queue", "Does Redis answer?", redis_checks.server),
    Check("eviction", "Does Redis keep all messages?", redis_checks.eviction, "queue"),
    Check("persistence", "Does Redis write to disk?", redis_checks.persistence, "queue"),
    Check("memory", "Has Redis room for more messages?", redis_checks.memory, "queue"),
    Check("workers", "Does one consume each queue of a pull?", fleet_checks.workers, "queue"),
    Check("registries", "Can the registries file be used?", registry_checks.configured),
    Check("registries", "Are any rate-limited or skipped?", registry_checks.not_asked, "queue"),
    Check("nodes", "Which are sick or silent?", fleet_checks.nodes, "schema"),
    Check("reconciler", "Is one running?", fleet_checks.reconciler, "schema"),
    Check("pauses", "What has an operator paused?", fleet_checks.paused, "schema"),
    Check("pulls", "Is each open one at work, or waiting?", pull_checks.attended, "schema"),
    Check("answers", "Was each pull that ended answered?", pull_checks.answered, "schema"),
    Check("failures", "Which pulls wait for a retry?", pull_checks.failures, "schema"),
)


def run_checks(fleet: CheckedFleet) -> Iterator[CheckResult]:
    """Every check that costs little; yields each result as soon as it is known."""
    well = {"", *(check.name for check in CHECKS)}
    for check in CHECKS:
        if check.needs not in well:
            well.discard(check.name)
            continue
        found = check.run(fleet)
        for finding in [found] if isinstance(found, Finding) else found:
            if finding.level in {"problem", "information"}:
                well.discard(check.name)
            yield CheckResult(check.name, finding.level, finding.sentence, finding.details)


def run_deep_checks(fleet: CheckedFleet, progress: Progress) -> Iterator[CheckResult]:
    """The checks that compare every row and every byte."""
    try:
        yield from rows(fleet.catalog, fleet.settings.chunk_bytes)
        with volume_checks.opened(fleet) as volume:
            yield from bytes_and_rows(volume, fleet.catalog, progress)
    except InvalidArgument:
        yield CheckResult("volume", "information", volume_checks.NOT_MOUNTED)
    except (VolumeUnavailable, VolumeFull) as error:
        yield CheckResult("volume", "problem", str(error))
    except CatalogUnavailable as error:
        yield CheckResult("database", "problem", str(error))


def wait_for_processes(fleet: CheckedFleet) -> None:
    """Wait for the worker and the reconciler of an embedded stack that was just started.

    Gives up after 30 s; the checks then report what is missing.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not _has_processes(fleet) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _has_processes(fleet: CheckedFleet) -> bool:
    has_reconciler = fleet_checks.reconciler(fleet).level == "ok"
    return has_reconciler and fleet_checks.any_worker_answers(fleet)
