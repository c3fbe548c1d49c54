"""Decide whether a layer is fetched now, and take its lease.

    load ──► missing? ──► blocked? ──► more urgent layers? ──► take the lease ──► fetch
                │             │                │                     │
              ends       waits as a row   goes to the end     another task holds it:
                                          of the queue        waits for it as a row

The checks and the lease are one transaction, so nothing can come in between.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Connection
from shared.catalog.layers import fetch_state, leases, pull_layers, waiters
from shared.catalog.layers.fetch_state import FetchState
from shared.catalog.layers.leases import LeaseHeld
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import finish, lifecycle
from shared.errors import CatalogUnavailable, InvalidArgument, InvalidManifest, PoisonLayer
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.pulls.layers.blockers import find_blocker, reserves_slots
from shared.pulls.layers.small_layer_fetch import lease_batch
from shared.pulls.layers.transfer import Announce, AnnouncedProgress
from shared.pulls.steps.attempt import Attempt, release_leases
from shared.pulls.steps.leased_layer import LeasedLayer
from shared.pulls.steps.outcomes import LeaseLost, TryAgain
from shared.pulls.steps.pull_lease import MOST_DEAD_OWNERS

# The clocks of the worker and of the database differ a little.
_LEASE_MARGIN_SECONDS = 0.5


def lease_layers(
    attempt: Attempt, digest: Digest, announce: Announce
) -> tuple[FetchState | None, list[LeasedLayer]]:
    """Take the leases of what is to be fetched here: this layer first, then small ones with it.

    The list is empty if there is nothing to fetch: the layer is stored, the pull has ended, another
    task fetches the layer, or something blocks it, and it waits as a row. Raises TryAgain for a
    message that must come again.
    """
    context, pull_id = attempt.context, attempt.pull_id
    # Asked before the transaction, so that no lock is held if the volume hangs.
    free_bytes = context.volume.space().free_bytes
    taken: list[LeasedLayer] = []
    with _released_after_an_outage(attempt, taken), context.catalog.begin() as tx:
        state = fetch_state.load(tx, pull_id, digest)
        if state is None or not _is_missing(tx, attempt, state, digest):
            return state, []
        blocker = find_blocker(tx, state, free_bytes, context.settings.reserved_slots)
        if blocker is not None:
            lifecycle.show_waiting(tx, pull_id, *blocker)
            pull_layers.wait(tx, pull_id, digest, *blocker)
            if blocker.cause == "paused":
                _leave_to_followers(tx, attempt, state.pull, digest)
            return state, []
        if not state.more_urgent:
            taken += _take(tx, attempt, state, announce)
            return state, taken
        pull_layers.touch_dispatched(tx, pull_id, digest)
    # A more urgent layer is queued behind this one: this message goes to the end of the queue.
    # Outside of the transaction, which must commit its new place.
    raise TryAgain(0.0)


@contextmanager
def _released_after_an_outage(attempt: Attempt, taken: Sequence[LeasedLayer]) -> Iterator[None]:
    """Release the leases that the block has taken, if the database becomes unavailable in it.

    The connection may have broken after the commit. Then the leases are held, and without this the
    layers would stand still until they expire, as if this worker had died.
    """
    try:
        yield
    except CatalogUnavailable:
        for leased in taken:
            with suppress(CatalogUnavailable, LeaseLost):
                release_leases(attempt.with_lease(leased))
        raise


def _is_missing(tx: Connection, attempt: Attempt, state: FetchState, digest: Digest) -> bool:
    """Whether this pull still wants the layer, and it is not stored."""
    pull, layer = state.pull, state.layer
    if pull.has_ended:
        if layer is not None and not layer.stored:
            _leave_to_followers(tx, attempt, pull, digest)
        return False
    if layer is None:
        raise InvalidArgument(f"The pull {pull.id} does not list the layer {digest}.")
    if layer.stored:
        check_size(layer, stored_blobs.stored(tx, [digest])[digest])
        return False
    return True


def _leave_to_followers(tx: Connection, attempt: Attempt, pull: Pull, digest: Digest) -> None:
    """Send the layer's message for the best follower. This pull does not fetch the layer, and its
    followers have no messages of their own.
    """
    registry = str(pull.registry)
    attempt.outbox.layers += waiters.dispatch_follower(tx, registry, digest, but=pull.id)


def _take(
    tx: Connection, attempt: Attempt, state: FetchState, announce: Announce
) -> list[LeasedLayer]:
    """Take the lease, or wait for the pull whose task holds it (an empty list)."""
    context, pull, layer = attempt.context, state.pull, state.listed
    reference, settings = Reference.parse(pull.reference), context.settings
    # The lock order, here and everywhere: pulls, blobs, pull_layers, leases (`waiters.py`).
    if pull.waiting_for is not None:
        lifecycle.clear_waiting(tx, pull.id)
    reserved_slots = (
        settings.reserved_slots if reserves_slots(state, settings.reserved_slots) else 0
    )
    batch = lease_batch(tx, context, pull.id, reference, layer, reserved_slots)
    if batch:
        if batch[0].digest != layer.digest:
            # Another pull took the lease first, and only the companions are ours. This rolls their
            # leases back.
            raise TryAgain(0.0)
        return batch
    pull_layers.begin(tx, pull.id, layer.digest)
    lease = leases.take(
        tx,
        reference.registry,
        layer.digest,
        owner=context.owner,
        pull_id=pull.id,
        bytes_total=layer.size_bytes,
        lease_seconds=settings.lease_seconds,
    )
    if isinstance(lease, LeaseHeld):
        _join(tx, pull.id, layer.digest, lease)
        return []
    if lease.stored:
        # It was stored between `fetch_state.load` and the lease.
        raise TryAgain(0.0)
    if lease.starts > MOST_DEAD_OWNERS:
        attempt.outbox.end(_fail_poison(tx, reference.registry, layer.digest, lease.starts))
        return []
    progress = AnnouncedProgress(announce, layer.size_bytes)
    return [LeasedLayer(reference, layer, lease.fence, pull.id, progress, lease.others)]


def _join(tx: Connection, pull_id: str, digest: Digest, lease: LeaseHeld) -> None:
    """Wait for the task that holds the lease.

    Raises TryAgain if that is an earlier task of this layer and pull. It is running, or it was
    killed; in the second case the lease expires.
    """
    if lease.pull_id != pull_id:
        pull_layers.join(tx, pull_id, digest, str(lease.pull_id), lease.expires_at)
    elif lease.is_companion:
        # Another task of this pull fetches it along with its own layer. If that task dies, the
        # reconciler sends a message for this layer.
        pull_layers.uncount_attempt(tx, pull_id, digest)
    else:
        # Only once: if the owner of the lease is alive, it has renewed the lease by then.
        raise TryAgain(max(lease.seconds, 0.0) + _LEASE_MARGIN_SECONDS, at_most_once=True)


def _fail_poison(tx: Connection, registry: str, digest: Digest, starts: int) -> list[str]:
    """Fail every open pull that wants a layer that kills its workers. Returns their ids.

    The count of dead workers is cleared, so that a later pull may try again.
    """
    error = PoisonLayer(
        f"Fetching {digest} from {registry} ended its worker {starts} times in a row without "
        "progress: look into the workers' logs, then run `towline retry` for the pull."
    )
    failed = waiters.lock_pulls_that_want(tx, registry, digest)
    for pull_id in failed:
        finish.fail(tx, pull_id, type(error).__name__, error.code, error.message)
    leases.reset(tx, registry, digest)
    return failed


def check_size(layer: PullLayer, size_bytes: int) -> None:
    """Raises InvalidManifest if the pull's manifest claims another size than the blob has."""
    if size_bytes != layer.size_bytes:
        raise InvalidManifest(
            f"The manifest promises {layer.size_bytes} bytes for {layer.digest}, which has "
            f"{size_bytes}."
        )
