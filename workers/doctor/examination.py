"""All checks of `towline doctor`, in the order in which they depend on each other. Reads only."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from celery import Celery

from shared.catalog.database.catalog import Catalog
from shared.errors import CatalogUnavailable, InvalidArgument, VolumeFull, VolumeUnavailable
from shared.settings import Settings
from shared.volume.store import Volume
from workers.doctor import catalog_checks, node_checks, queue_checks, registry_checks, volume_checks
from workers.doctor import volume_proof as deep_checks
from workers.doctor.finding import CheckResult
from workers.process.fleet_volume import open_volume

# Called with the number of bytes read so far, and the number to read.
Progress = Callable[[int, int], None]

_STAFF_SECONDS = 30.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class CheckedFleet:
    """The fleet to examine."""

    settings: Settings
    catalog: Catalog
    app: Celery


def wait_for_processes(patient: CheckedFleet) -> None:
    """Wait for the worker and the reconciler of an embedded stack that was just started.

    Gives up after 30 s; the checks then report what is missing.
    """
    deadline = time.monotonic() + _STAFF_SECONDS
    while not _is_staffed(patient) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _is_staffed(patient: CheckedFleet) -> bool:
    has_reconciler = catalog_checks.reconciler(patient.catalog).level == "ok"
    return has_reconciler and queue_checks.any_worker_answers(patient.app)


def run_checks(patient: CheckedFleet) -> Iterator[CheckResult]:
    """Every check that costs little; yields each finding as soon as it is known.

    A check is left out if it depends on something that was found broken before.
    """
    catalog, settings = patient.catalog, patient.settings
    database = catalog_checks.database(catalog)
    yield database
    schema = None
    if database.level != "problem":
        schema = catalog_checks.schema(catalog)
        yield schema
        yield catalog_checks.clock(catalog)
    knows = schema is not None and schema.level == "ok"
    if knows:
        yield from _with_volume(patient, volume_checks.mounted)
    queue = queue_checks.check_redis(patient.app)
    yield from queue
    is_away = queue[0].level == "problem"
    if not is_away:
        yield from queue_checks.check_workers(patient.app)
    yield from registry_checks.configured(settings)
    if not is_away:
        yield from registry_checks.check_rate_limits(settings)
    if knows:
        yield from node_checks.check_nodes(catalog)
        yield catalog_checks.reconciler(catalog)
        yield from catalog_checks.check_pauses(catalog)
        yield catalog_checks.check_pulls(catalog, None if is_away else patient.app, settings)
        yield catalog_checks.answered(catalog, queue_is_away=is_away)
        yield from catalog_checks.failures(catalog)


def run_deep_checks(patient: CheckedFleet, progress: Progress) -> Iterator[CheckResult]:
    """The checks that compare every row and every byte."""
    try:
        yield from deep_checks.rows(patient.catalog, patient.settings.chunk_bytes)
        yield from _with_volume(
            patient, lambda volume, _: deep_checks.bytes_and_rows(volume, patient.catalog, progress)
        )
    except CatalogUnavailable as error:
        yield CheckResult("database", "problem", str(error))


def _with_volume(
    patient: CheckedFleet, check: Callable[[Volume, CheckedFleet], Iterator[CheckResult]]
) -> Iterator[CheckResult]:
    try:
        path = patient.settings.volume_path
    except InvalidArgument:
        yield CheckResult(
            "volume",
            "information",
            "The volume was not checked: set TOWLINE_VOLUME to the path where it is mounted.",
        )
        return
    try:
        volume = open_volume(patient.catalog, path)
        try:
            yield from check(volume, patient)
        finally:
            volume.close()
    except (VolumeUnavailable, VolumeFull) as error:
        yield CheckResult("volume", "problem", str(error))
