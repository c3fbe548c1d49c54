"""The lease renewer: one thread per process. It renews the process's leases, and stops downloads
that no pull wants any more.

While there are downloads, it runs a round once a second. In one transaction it records how far each
download is, renews the leases that are due, and asks which pull still wants each layer. It also
returns memory that downloads have freed to the system. While there is nothing to keep, it runs no
rounds and no queries.

A download's lease is renewed only if the download showed a sign of life within the stall time.
Otherwise a write that hangs for ever would hold its lease for ever.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from shared import allocator
from shared.catalog.database.catalog import Catalog
from shared.catalog.fleet import step_leases
from shared.catalog.fleet.step_leases import StepLease
from shared.catalog.layers import lease_reports, leases, wanted_downloads
from shared.catalog.layers.wanted_downloads import Verdict
from shared.catalog.pulls import lifecycle
from shared.errors import CatalogUnavailable
from shared.pulls.layers.leased_layer import LeasedLayer
from shared.pulls.steps.fetched_bytes import FetchedBytes
from shared.pulls.steps.outcomes import (
    LeaseLost,
    NotWanted,
    Paused,
    ShuttingDown,
    StoredElsewhere,
)
from shared.settings import Settings

_log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 1.0

# A step reads a few small documents and writes a few links. If it shows no sign of life for this
# long it hangs, and its lease is no longer renewed.
_LONGEST_STEP_SECONDS = 300.0

# Leases are renewed after a third of their life. If more than this part of it has passed since the
# last renewal, the lease may have expired.
_SURELY_HELD = 2 / 3


@dataclass(slots=True)
class _Download:
    leased: LeasedLayer
    # time.monotonic() of the lease's last renewal.
    renewed_at: float


@dataclass(slots=True)
class _Step:
    lease: StepLease
    # time.monotonic() of its last sign of life.
    active_at: float
    renewed_at: float
    is_lost: bool = False


_Kept = TypeVar("_Kept", _Download, _Step)


class LeaseRenewer:
    """Keeps the leases of one process. `is_shutting_down` says whether the process is."""

    def __init__(
        self, catalog: Catalog, settings: Settings, is_shutting_down: Callable[[], bool]
    ) -> None:
        self._catalog = catalog
        self._lease_seconds = settings.lease_seconds
        self._stall_seconds = settings.stall_timeout_seconds
        self.is_shutting_down = is_shutting_down
        self._downloads: dict[int, _Download] = {}
        self._steps: dict[int, _Step] = {}
        self._changed = threading.Condition()
        self.fetched_bytes = FetchedBytes(catalog)
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def renewing(self, leased: LeasedLayer) -> Iterator[None]:
        """Renew a layer's lease during the block.

        If the block raises, the bytes fetched so far are recorded here. Otherwise the transaction
        that records the layer as stored adds the rest (`FetchedBytes.take_unrecorded`).
        """
        download = _Download(leased, time.monotonic())
        try:
            with self._entered(self._downloads, leased.fence, download):
                yield
        except BaseException:
            # If this fails, only the receipt's count is too low: the bytes are on the volume.
            with suppress(CatalogUnavailable):
                self.fetched_bytes.record([leased])
            raise

    @contextmanager
    def renewing_step(self, lease: StepLease) -> Iterator[Callable[[], None]]:
        """Renew the lease of a pull's step during the block.

        Yields `beat()`, which the step calls as a sign of life. It raises LeaseLost once another
        process holds the lease.
        """
        now = time.monotonic()
        step = _Step(lease, now, now)

        def beat() -> None:
            if time.monotonic() - step.renewed_at > self._lease_seconds * _SURELY_HELD:
                # This process was stopped for a while. Ask now instead of waiting for a round: the
                # lease may be another process's by now.
                self._renew_steps([step])
            if step.is_lost:
                raise LeaseLost(f"Another worker has taken {lease.name} over.")
            step.active_at = time.monotonic()

        with self._entered(self._steps, lease.fence, step):
            yield beat

    def close(self) -> None:
        """End the thread and wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def _entered(self, entries: dict[int, _Kept], fence: int, entry: _Kept) -> Iterator[None]:
        with self._changed:
            entries[fence] = entry
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease-renewer", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del entries[fence]

    def _run(self) -> None:
        while self._wait_for_round():
            with self._changed:
                downloads = list(self._downloads.values())
                steps = list(self._steps.values())
            self._run_round(downloads, steps)

    def _wait_for_round(self) -> bool:
        """Wait until there has been work for a second. False once the renewer is closed.

        Work that takes less, such as a small layer or a quick step, costs no round.
        """
        with self._changed:
            while not self._closed and not self._downloads and not self._steps:
                self._changed.wait()
            self._changed.wait_for(lambda: self._closed, _INTERVAL_SECONDS)
            return not self._closed

    def _run_round(self, downloads: list[_Download], steps: list[_Step]) -> None:
        if self.is_shutting_down():
            for download in downloads:
                download.leased.progress.stop(ShuttingDown("This worker is shutting down."))
        try:
            self._renew_steps(self._due_steps(steps))
            if downloads:
                # Before the downloads' queries, which may wait for an unavailable database.
                allocator.return_free_pages()
                self.fetched_bytes.record([download.leased for download in downloads])
                self._renew_downloads(downloads)
        except CatalogUnavailable:
            # Downloads go on while the database is unavailable; the next round catches up.
            return
        except Exception:
            # Without this thread every download of the process would lose its lease.
            _log.exception("A round of the lease renewer failed; the next one tries again.")

    def _renew_downloads(self, downloads: list[_Download]) -> None:
        now = time.monotonic()
        held = [download.leased for download in downloads]
        renewed = {
            download.leased.fence for download in downloads if self._is_renewed(download, now)
        }
        with self._catalog.begin() as tx:
            holding = lease_reports.renew(
                tx,
                [
                    lease_reports.Report(
                        leased.registry,
                        leased.digest,
                        leased.fence,
                        leased.progress.offset,
                        renew=leased.fence in renewed,
                    )
                    for leased in held
                ],
                self._lease_seconds,
            )
            verdicts = wanted_downloads.judge_downloads(
                tx,
                [(leased.registry, leased.digest, leased.fence, leased.pull_id) for leased in held],
            )
            for leased in held:
                lifecycle.refresh_bytes_done(tx, leased.pull_id, leased.registry)
        by_fence = {verdict.fence: verdict for verdict in verdicts}
        for download in downloads:
            leased = download.leased
            if leased.fence in renewed:
                download.renewed_at = now
            if leased.fence in holding:
                self._stop_or_reassign(leased, by_fence[leased.fence])
            else:
                leased.progress.stop(LeaseLost(f"Another worker has taken {leased.digest} over."))

    def _is_renewed(self, download: _Download, now: float) -> bool:
        """Whether the lease is due, and the download has shown a sign of life in time."""
        silent_seconds = now - download.leased.progress.active_at
        return self._is_due(download.renewed_at, now) and silent_seconds <= self._stall_seconds

    def _stop_or_reassign(self, leased: LeasedLayer, verdict: Verdict) -> None:
        """Stop a download that no pull wants now, or fetch it for the pull that does."""
        digest, progress = leased.digest, leased.progress
        if verdict.stored:
            progress.stop(StoredElsewhere(f"{digest} is stored already."))
        elif verdict.pull_id is None:
            progress.stop(NotWanted(f"No pull wants {digest} any more."))
        elif verdict.paused:
            progress.stop(Paused(f"Every pull that wants {digest} is paused."))
        elif verdict.pull_id != leased.pull_id:
            # Its own pull has ended. The best pull that waits for the layer takes its place.
            with self._catalog.begin() as tx:
                leases.assign(tx, leased.registry, digest, leased.fence, verdict.pull_id)
            leased.pull_id = verdict.pull_id

    def _due_steps(self, steps: list[_Step]) -> list[_Step]:
        now = time.monotonic()
        return [
            step
            for step in steps
            if self._is_due(step.renewed_at, now) and now - step.active_at < _LONGEST_STEP_SECONDS
        ]

    def _renew_steps(self, steps: list[_Step]) -> None:
        if not steps:
            return
        now = time.monotonic()
        with self._catalog.begin() as tx:
            holding = step_leases.renew(
                tx, [step.lease.fence for step in steps], self._lease_seconds
            )
        for step in steps:
            step.renewed_at = now
            step.is_lost = step.lease.fence not in holding

    def _is_due(self, renewed_at: float, now: float) -> bool:
        return now - renewed_at >= self._lease_seconds / 3
