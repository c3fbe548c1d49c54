"""One layer: from what is on disk to a stored, verified blob and its row.

Of the task's arguments only the digest is believed, and only if the pull lists it; sizes come
from the catalog. The file is published first and the row written second, so a crash between the
two leaves a blob that the next attempt hashes and adopts.

Whoever takes the lease fetches the layer for everybody who wants it. A task that finds it taken
ends at once: its pull waits as a row, and is told when the layer lands (`landing.py`).
"""

from contextlib import ExitStack

from shared.catalog import blobs, ends, layer_looks, leases, pull_layers, pulls, waiters
from shared.catalog.database import Connection
from shared.catalog.leases import Held
from shared.catalog.pull_layers import PullLayer
from shared.catalog.pull_values import Pull
from shared.catalog.window import URGENT_PRIORITY
from shared.errors import InvalidArgument, PoisonLayer
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from workers.pulling.arriving import Arrival, arrive
from workers.pulling.attempts import Attempt, Postponed, TryAgain
from workers.pulling.companions import begin_together, fetch_together
from workers.pulling.landing import check_claim, land
from workers.pulling.linking import link_image
from workers.pulling.obstacles import find_obstacle, reserves
from workers.pulling.outbox import Outbox
from workers.pulling.stepping import POISON_STARTS
from workers.pulling.tally import Transfer
from workers.pulling.transferring import Announce, Announced, Work, owner_of
from workers.pulling.trying import attempt
from workers.resources import Resources


class Occupied(Postponed):
    """An earlier task for the same pull holds the lease: it is at work, or it was killed, and then
    the lease is free in `seconds`.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class YieldTurn(Postponed):
    """This message goes to the end of the queue: a more urgent layer stands behind it, or somebody
    has just begun or stored this one.
    """


def fetch_layer(
    resources: Resources, pull_id: str, digest: Digest, announce: Announce, outbox: Outbox
) -> None:
    """Bring one layer of a pull onto the volume, and small ones along with it. Does nothing for a
    layer or pull that is done, nor for a layer that somebody else is at.

    Raises TryAgain, YieldTurn, Occupied, LettingGo, or the error after the pull was failed with it.
    """
    if resources.spoken_for.take(pull_id, digest):
        return
    arrivals: list[Arrival] = []
    with ExitStack() as until_linked:
        with attempt(resources, pull_id, outbox, digest) as current:
            works = _begin(current, digest, announce)
            others = [one.layer.digest for one in works[1:]]
            until_linked.enter_context(resources.spoken_for.at_work(pull_id, others))
            arrivals = fetch_together(current, works) if others else []
            if works and not arrivals and (arrival := arrive(current, works[0])):
                arrivals = [arrival]
            if arrivals:
                land(current, arrivals)
        if (len(arrivals) > 1 or current.is_urgent) and pull_id in outbox.links:
            _link_now(resources, pull_id, outbox)


def _link_now(resources: Resources, pull_id: str, outbox: Outbox) -> None:
    """The last layers of a pull came together, or it is urgent. Its own message might wait behind
    all that others have sent, and the chord's body behind those that find nothing to do.
    """
    outbox.links.remove(pull_id)
    try:
        link_image(resources, pull_id, outbox)
    except TryAgain:
        outbox.links.append(pull_id)


def _begin(current: Attempt, digest: Digest, announce: Announce) -> list[Work]:
    """What there is to do, under leases of our own: this layer, and small ones along with it;
    nothing when it need not be done here.
    """
    resources = current.resources
    # Asked before the transaction: a volume that hangs must not hang with locks in its hands.
    free_bytes = resources.volume.space().free_bytes
    with resources.catalog.begin() as tx:
        look = layer_looks.look(tx, current.pull_id, digest)
        if look is None:
            return []
        layer = look.layer
        if look.pull.final:
            if layer is not None and not layer.stored:
                _leave_to_followers(tx, current, look.pull, digest)
            return []
        if layer is None:
            raise InvalidArgument(f"The pull {look.pull.id} does not list the layer {digest}.")
        if layer.stored:
            check_claim(layer, blobs.stored(tx, [digest])[digest])
            return []
        reserved_slots = resources.settings.reserved_slots
        obstacle = find_obstacle(tx, look, layer, free_bytes, reserved_slots)
        if obstacle is not None:
            pulls.say(tx, current.pull_id, *obstacle)
            pull_layers.wait(tx, current.pull_id, digest, *obstacle)
            if obstacle.cause == "paused":
                _leave_to_followers(tx, current, look.pull, digest)
            return []
        if not look.more_urgent:
            current.frees_slot = reserves(look, reserved_slots)
            current.is_urgent = look.pull.priority >= URGENT_PRIORITY
            return _take(tx, current, look.pull, layer, announce)
        pull_layers.sent_again(tx, current.pull_id, digest)
    raise YieldTurn


def _leave_to_followers(tx: Connection, current: Attempt, pull: Pull, digest: Digest) -> None:
    """This pull does not fetch the layer. Those that followed it have no message of their own."""
    registry = str(pull.registry)
    current.outbox.layers += waiters.succeed(tx, registry, digest, but=pull.id)


def _take(
    tx: Connection, current: Attempt, pull: Pull, layer: PullLayer, announce: Announce
) -> list[Work]:
    """Take the lease, or join whoever has it."""
    resources, pull_id, digest = current.resources, current.pull_id, layer.digest
    reference = Reference.parse(pull.reference)
    # Pulls, layers, leases: the order of every lock.
    if pull.waiting_for is not None:
        pulls.go_on(tx, pull_id)
    if works := begin_together(tx, current, reference, layer):
        if works[0].layer.digest != digest:
            # Another pull has begun it at this moment.
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
    if isinstance(lease, Held):
        _join(tx, pull_id, digest, lease)
        return []
    if lease.stored:
        # It landed between the look and the lease.
        raise YieldTurn
    if lease.starts > POISON_STARTS:
        _poison(tx, current, reference.registry, digest, lease.starts)
        return []
    # Should it have landed a moment ago, its file is found and adopted.
    progress = Announced(announce, layer.size_bytes)
    current.transfer = Transfer(reference.registry, digest, lease.fence, pull_id, progress)
    current.kept_bytes = layer.bytes_done
    return [Work(reference, layer, current.transfer, frozenset(map(owner_of, lease.others)))]


def _join(tx: Connection, pull_id: str, digest: Digest, lease: Held) -> None:
    """Another task is at this layer. Raises Occupied where that may have been killed."""
    if lease.pull_id != pull_id:
        pull_layers.join(tx, pull_id, digest, str(lease.pull_id), lease.expires_at)
    elif lease.is_companion:
        # Of this pull, along with its own layer: should it die, the reconciler sends this one.
        pull_layers.leave(tx, pull_id, digest)
    else:
        raise Occupied(lease.seconds)


def _poison(tx: Connection, current: Attempt, registry: str, digest: Digest, starts: int) -> None:
    """End every pull that wants a layer that kills its workers; the next one begins anew."""
    error = PoisonLayer(
        f"Fetching {digest} from {registry} ended its worker {starts} times in a row without "
        "progress: look into the workers' logs, then `towline retry` the pull."
    )
    spent = waiters.wanting(tx, registry, digest)
    for pull_id in spent:
        ends.fail(tx, pull_id, type(error).__name__, error.code, error.message)
    leases.forget(tx, registry, digest)
    current.outbox.end(spent)
