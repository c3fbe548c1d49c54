"""Fetch one layer: from what is on the volume already to a verified blob and its row.

Of the task's arguments only the digest is trusted, and only if the pull lists it; sizes come from
the catalog. The file is published first and the row is written second. After a crash between the
two, the next attempt finds the file, hashes it and adopts it.

The holder of the lease fetches the layer for every pull that wants it. A task that finds the lease
taken ends at once, and its pull waits as a row. When the layer is stored, `layer_completion.py`
finds the pulls that it completes.
"""

from contextlib import ExitStack

from shared.catalog.admission.window import URGENT_PRIORITY
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Connection
from shared.catalog.layers import fetch_state, leases, pull_layers, waiters
from shared.catalog.layers.leases import LeaseHeld
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import finish, lifecycle
from shared.errors import InvalidArgument, PoisonLayer
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.pulls.context import Context
from shared.pulls.layers.blockers import find_obstacle, reserves
from shared.pulls.layers.bytes_fetched import Transfer
from shared.pulls.layers.layer_completion import check_claim, record_stored
from shared.pulls.layers.leased_fetch import FetchedLayer, fetch_blob
from shared.pulls.layers.small_layer_fetch import begin_batch, fetch_batch
from shared.pulls.layers.transfer import Announce, AnnouncedProgress, FetchJob, owner_of
from shared.pulls.linking import link_image
from shared.pulls.outbox import Outbox
from shared.pulls.steps.attempts import Attempt, Postponed, TryAgain
from shared.pulls.steps.pull_lease import MOST_DEAD_OWNERS
from shared.pulls.steps.step_run import run_step


class LeaseHeldByEarlierTask(Postponed):
    """An earlier task of the same pull holds the lease. It is running, or it was killed; in the
    second case the lease expires in `seconds`.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class YieldTurn(Postponed):
    """This message goes to the end of the queue: a more urgent layer is queued behind it, or
    another task has just taken the lease of this layer or stored it.
    """


def fetch_layer(
    resources: Context, pull_id: str, digest: Digest, announce: Announce, outbox: Outbox
) -> None:
    """Fetch one layer of a pull, and other small layers of the pull with it.

    Does nothing if the layer is stored, if the pull has ended, or if another task fetches the
    layer. Raises TryAgain, YieldTurn, LeaseHeldByEarlierTask, ShuttingDown, or the error after
    failing the pull with it.
    """
    if resources.claimed_layers.is_claimed(pull_id, digest):
        return
    arrivals: list[FetchedLayer] = []
    with ExitStack() as until_linked:
        with run_step(resources, pull_id, outbox, digest) as current:
            works = _begin(current, digest, announce)
            others = [work.layer.digest for work in works[1:]]
            # Up to the end of the link, the companions' own tasks yield to this one.
            until_linked.enter_context(resources.claimed_layers.fetching(pull_id, others))
            arrivals = fetch_batch(current, works) if others else []
            # A layer without companions, or the first of a batch that did not arrive.
            if works and not arrivals and (arrival := fetch_blob(current, works[0])):
                arrivals = [arrival]
            if arrivals:
                record_stored(current, arrivals)
        if (len(arrivals) > 1 or current.is_urgent) and pull_id in outbox.links:
            _link_now(resources, pull_id, outbox)


def _link_now(resources: Context, pull_id: str, outbox: Outbox) -> None:
    """Link in this task: the pull's last layers came together, or the pull is urgent.

    A message for the link could wait behind everything that is queued. The body of the chord could
    wait behind header tasks that have nothing left to do.
    """
    outbox.links.remove(pull_id)
    try:
        link_image(resources, pull_id, outbox)
    except TryAgain:
        outbox.links.append(pull_id)


def _begin(current: Attempt, digest: Digest, announce: Announce) -> list[FetchJob]:
    """Take the leases of what is to be fetched here: this layer first, then small ones with it.

    Empty if there is nothing to fetch: the layer is stored, the pull has ended, another task is
    fetching the layer, or an obstacle makes it wait. Raises YieldTurn.
    """
    resources = current.resources
    # Asked before the transaction, so that no lock is held if the volume hangs.
    free_bytes = resources.volume.space().free_bytes
    with resources.catalog.begin() as tx:
        look = fetch_state.load(tx, current.pull_id, digest)
        if look is None:
            return []
        layer = look.layer
        if look.pull.has_ended:
            if layer is not None and not layer.stored:
                _leave_to_followers(tx, current, look.pull, digest)
            return []
        if layer is None:
            raise InvalidArgument(f"The pull {look.pull.id} does not list the layer {digest}.")
        if layer.stored:
            check_claim(layer, stored_blobs.stored(tx, [digest])[digest])
            return []
        reserved_slots = resources.settings.reserved_slots
        obstacle = find_obstacle(tx, look, layer, free_bytes, reserved_slots)
        if obstacle is not None:
            lifecycle.show_waiting(tx, current.pull_id, *obstacle)
            pull_layers.wait(tx, current.pull_id, digest, *obstacle)
            if obstacle.cause == "paused":
                _leave_to_followers(tx, current, look.pull, digest)
            return []
        if not look.more_urgent:
            current.frees_slot = reserves(look, reserved_slots)
            current.is_urgent = look.pull.priority >= URGENT_PRIORITY
            return _take(tx, current, look.pull, layer, announce)
        pull_layers.touch_dispatched(tx, current.pull_id, digest)
    # Outside of the transaction, which must commit the new place in the queue.
    raise YieldTurn


def _leave_to_followers(tx: Connection, current: Attempt, pull: Pull, digest: Digest) -> None:
    """Send the layer's message for the best follower. This pull does not fetch the layer, and its
    followers have no messages of their own.
    """
    registry = str(pull.registry)
    current.outbox.layers += waiters.dispatch_follower(tx, registry, digest, but=pull.id)


def _take(
    tx: Connection, current: Attempt, pull: Pull, layer: PullLayer, announce: Announce
) -> list[FetchJob]:
    """Take the lease, or wait for the pull whose task holds it (empty result).

    Raises YieldTurn, LeaseHeldByEarlierTask.
    """
    resources, pull_id, digest = current.resources, current.pull_id, layer.digest
    reference = Reference.parse(pull.reference)
    # The lock order, here and everywhere: pulls, layers, leases.
    if pull.waiting_for is not None:
        lifecycle.clear_waiting(tx, pull_id)
    if works := begin_batch(tx, current, reference, layer):
        if works[0].layer.digest != digest:
            # Another pull took the lease first, and only the companions are ours. YieldTurn rolls
            # their leases back.
            raise YieldTurn
        current.transfer = works[0].transfer
        return works
    pull_layers.begin(tx, pull_id, digest)
    lease = leases.take(
        tx,
        reference.registry,
        digest,
        owner=resources.owner,
        pull_id=pull_id,
        bytes_total=layer.size_bytes,
        lease_seconds=resources.settings.lease_seconds,
    )
    if isinstance(lease, LeaseHeld):
        _join(tx, pull_id, digest, lease)
        return []
    if lease.stored:
        # It was stored between `fetch_state.load` and the lease.
        raise YieldTurn
    if lease.starts > MOST_DEAD_OWNERS:
        _poison(tx, current, reference.registry, digest, lease.starts)
        return []
    # If the blob is published without a row, `adopt_or_download` finds the file and adopts it.
    progress = AnnouncedProgress(announce, layer.size_bytes)
    current.transfer = Transfer(reference.registry, digest, lease.fence, pull_id, progress)
    current.kept_bytes = layer.bytes_done
    return [FetchJob(reference, layer, current.transfer, frozenset(map(owner_of, lease.others)))]


def _join(tx: Connection, pull_id: str, digest: Digest, lease: LeaseHeld) -> None:
    """Wait for the task that holds the lease.

    Raises LeaseHeldByEarlierTask if that is a task of this layer and pull, which may have been
    killed.
    """
    if lease.pull_id != pull_id:
        pull_layers.join(tx, pull_id, digest, str(lease.pull_id), lease.expires_at)
    elif lease.is_companion:
        # Another task of this pull fetches it along with its own layer. If that task dies, the
        # reconciler sends a message for this layer.
        pull_layers.uncount_attempt(tx, pull_id, digest)
    else:
        raise LeaseHeldByEarlierTask(lease.seconds)


def _poison(tx: Connection, current: Attempt, registry: str, digest: Digest, starts: int) -> None:
    """Fail every open pull that wants a layer that kills its workers.

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
    current.outbox.end(failed)
