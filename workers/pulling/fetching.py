"""One layer: from what is on disk to a stored, verified blob and its row.

Of the task's arguments only the digest is believed, and only if the pull lists it; sizes come
from the catalog. The file is published first and the row written second, so a crash between the
two leaves a blob that the next attempt hashes and adopts.

Whoever takes the lease fetches the layer for everybody who wants it. A task that finds it taken
ends at once: its pull waits as a row, and is told when the layer lands (`landing.py`).
"""

from shared.catalog import (
    blobs,
    ends,
    landings,
    layer_looks,
    leases,
    pauses,
    pull_layers,
    pulls,
    waiters,
)
from shared.catalog.database import Connection
from shared.catalog.leases import Held
from shared.catalog.pull_layers import PullLayer
from shared.catalog.pull_values import Pull
from shared.errors import InvalidArgument, PoisonLayer
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from workers.pulling.attempts import Attempt, Postponed, hand_over, let_go
from workers.pulling.landing import check_claim, land
from workers.pulling.obstacles import PAUSED_SECONDS, find_obstacle, reserves
from workers.pulling.outbox import Outbox
from workers.pulling.stepping import POISON_STARTS
from workers.pulling.stops import (
    LettingGo,
    NotWanted,
    Paused,
    Stopped,
    StoredElsewhere,
)
from workers.pulling.tally import Transfer
from workers.pulling.transferring import Announce, Announced, Work, obtain, owner_of
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
    """A more urgent layer stands behind this one in the queue: this message goes to the end."""


def fetch_layer(
    resources: Resources, pull_id: str, digest: Digest, announce: Announce, outbox: Outbox
) -> None:
    """Bring one layer of a pull onto the volume. Does nothing for a layer or pull that is done,
    nor for a layer that somebody else is at.

    Raises TryAgain, YieldTurn, Occupied, LettingGo, or the error after the pull was failed with it.
    """
    with attempt(resources, pull_id, outbox, digest) as current:
        work = _begin(current, digest, announce)
        if work is None:
            return
        try:
            with resources.keeper.keeping(work.transfer):
                size_bytes, source = obtain(current, work)
        except Stopped as reason:
            _stop(current, reason)
            return
        land(current, work.layer, size_bytes, source)


def _begin(current: Attempt, digest: Digest, announce: Announce) -> Work | None:
    """What there is to do, under a lease of our own; None when it need not be done here."""
    resources = current.resources
    # Asked before the transaction: a volume that hangs must not hang with locks in its hands.
    free_bytes = resources.volume.space().free_bytes
    with resources.catalog.begin() as tx:
        look = layer_looks.look(tx, current.pull_id, digest)
        if look is None or look.pull.final:
            return None
        layer = look.layer
        if layer is None:
            raise InvalidArgument(f"The pull {look.pull.id} does not list the layer {digest}.")
        if layer.stored:
            check_claim(layer, blobs.stored(tx, [digest])[digest])
            return None
        reserved_slots = resources.settings.reserved_slots
        obstacle = find_obstacle(tx, look, layer, free_bytes, reserved_slots)
        if obstacle is not None:
            pulls.say(tx, current.pull_id, *obstacle)
            pull_layers.wait(tx, current.pull_id, digest, *obstacle)
            return None
        if not look.more_urgent:
            current.frees_slot = reserves(look, reserved_slots)
            return _take(tx, current, look.pull, layer, announce)
        pull_layers.sent_again(tx, current.pull_id, digest)
    raise YieldTurn


def _take(
    tx: Connection, current: Attempt, pull: Pull, layer: PullLayer, announce: Announce
) -> Work | None:
    """Take the lease, or join whoever has it."""
    resources, pull_id, digest = current.resources, current.pull_id, layer.digest
    reference = Reference.parse(pull.reference)
    # Pulls, layers, leases: the order of every lock.
    if pull.waiting_for is not None:
        pulls.go_on(tx, pull_id)
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
        if lease.pull_id == pull_id:
            raise Occupied(lease.seconds)
        pull_layers.join(tx, pull_id, digest, str(lease.pull_id), lease.expires_at)
        return None
    if lease.starts > POISON_STARTS:
        _poison(tx, current, reference.registry, digest, lease.starts)
        return None
    # Should it have landed a moment ago, its file is found and adopted.
    progress = Announced(announce, layer.size_bytes)
    current.transfer = Transfer(reference.registry, digest, lease.fence, pull_id, progress)
    current.kept_bytes = layer.bytes_done
    return Work(reference, layer, current.transfer, frozenset(map(owner_of, lease.others)))


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


def _stop(current: Attempt, reason: Stopped) -> None:
    """A download that was ended from outside: nothing is counted against anybody."""
    digest, pull_id = current.digest, current.beneficiary
    assert digest is not None  # noqa: S101 - a transfer has one
    if isinstance(reason, LettingGo):
        let_go(current)
        raise reason
    with current.resources.catalog.begin() as tx:
        if isinstance(reason, Paused):
            pause = pauses.of_pull(tx, pull_id)
            sentence = pause.sentence if pause else "it was paused"
            pulls.say(tx, pull_id, "paused", PAUSED_SECONDS, sentence)
            pull_layers.wait(tx, pull_id, digest, "paused", PAUSED_SECONDS, sentence)
        if isinstance(reason, NotWanted | Paused):
            current.outbox.layers += hand_over(tx, current)
        if isinstance(reason, StoredElsewhere):
            current.outbox.links += landings.settle(tx, digest, pull_id)
