"""Small layers of a pull, fetched by the task of one of them.

    fetch_layer(a)   begin a, b, c ── read a ── store a ── store b ── store c ── land a, b, c
                                           └─── read b ─── read c
    fetch_layer(b)   ends at once: somebody is at it

How many: `shared/catalog/companions.py`. The beginning, the fsync of their names and the landing
are shared. They are read whole, and whatever is not as it should be ends it: what came is landed,
and the others are left to their own tasks, which know what to do about it.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

from shared.catalog import companions, layer_messages, pull_layers
from shared.catalog.companions import SMALL_BYTES
from shared.catalog.database import Connection
from shared.catalog.pull_layers import PullLayer
from shared.download.ahead import Ahead
from shared.download.progress import Progress
from shared.errors import CatalogUnavailable, TowlineError
from shared.oci.descriptor import Descriptor
from shared.oci.reference import Reference
from shared.volume.shelf import Shelf
from workers.pulling.arriving import Arrival
from workers.pulling.attempts import Attempt, hand_over
from workers.pulling.proving import Proof
from workers.pulling.stops import LeaseLost
from workers.pulling.tally import Transfer
from workers.pulling.transferring import Work, owner_of
from workers.resources import Resources

# What has come is landed so much later, at most.
_PATIENCE_SECONDS = 1.0


def begin_together(
    tx: Connection, current: Attempt, reference: Reference, layer: PullLayer
) -> list[Work]:
    """Begin this layer of the pull, and its companions behind it; none where it has none, and
    without it where another pull has just begun it.
    """
    resources, pull_id = current.resources, current.pull_id
    is_slow = resources.spoken_for.has_given_up(reference.registry)
    if layer.size_bytes > SMALL_BYTES or layer.attempts or is_slow:
        return []
    taken = companions.take(
        tx,
        pull_id,
        layer.digest,
        owner=resources.owner,
        lease_seconds=resources.settings.lease_seconds,
        reserved_slots=resources.settings.reserved_slots if current.frees_slot else 0,
    )
    return [
        Work(
            reference,
            one.layer,
            Transfer(reference.registry, one.layer.digest, one.fence, pull_id, Progress()),
            alive=frozenset(),
        )
        for one in taken
    ]


def fetch_together(current: Attempt, works: Sequence[Work]) -> list[Arrival]:
    """Fetch them, the task's own layer first. What came: without the own one nothing, and it is
    still this task's. Raises VolumeFull, VolumeUnavailable.
    """
    arrivals: list[Arrival] = []
    others = works[1:]
    try:
        _fetch(current, works, arrivals)
    except BaseException:
        _give_back(current, others)
        raise
    _give_back(current, others[max(len(arrivals) - 1, 0) :])
    return arrivals


def _fetch(current: Attempt, works: Sequence[Work], arrivals: list[Arrival]) -> None:
    resources, deadline = current.resources, time.monotonic() + _PATIENCE_SECONDS
    reads = [partial(_read, resources, work) for work in works]
    owner = owner_of(works[0].transfer.fence)
    with Ahead(reads) as ahead, Shelf(resources.volume, owner) as shelf:
        try:
            for work in works:
                its_own = _attempt(current, work) if arrivals else current
                raw = ahead.take(deadline - time.monotonic())
                arrivals.append(_store(its_own, work, raw, shelf))
        except TimeoutError:
            # What is left behind may come in vain: not again so soon.
            resources.spoken_for.give_up(works[0].transfer.registry)
        except TowlineError:
            # Whatever it is, the next task for that layer meets it and knows its name.
            pass
        shelf.settle()


def _read(resources: Resources, work: Work) -> bytes:
    layer = work.layer
    descriptor = Descriptor(layer.media_type, layer.digest, layer.size_bytes, urls=(*layer.urls,))
    return resources.registry.blob(work.reference, descriptor, SMALL_BYTES)


def _store(current: Attempt, work: Work, raw: bytes, shelf: Shelf) -> Arrival:
    progress = work.transfer.progress
    progress.received(len(raw))
    current.proof = Proof.begin(current.resources, current.pull_id, work.layer)
    shelf.put(work.layer.digest, raw)
    if current.proof is not None:
        current.proof.finish(current.resources, progress.beat)
    return Arrival(current, work, len(raw), "network")


def _attempt(current: Attempt, work: Work) -> Attempt:
    digest, transfer = work.layer.digest, work.transfer
    return Attempt(current.resources, current.pull_id, current.outbox, digest, transfer)


def _give_back(current: Attempt, left: Iterable[Work]) -> None:
    """Their own tasks are at these, or the tasks of those who wait for them."""
    pull_id, outbox = current.pull_id, current.outbox
    for work in left:
        digest = work.layer.digest
        # While it is away their leases end by themselves.
        with suppress(CatalogUnavailable, LeaseLost), current.resources.catalog.begin() as tx:
            pull_layers.leave(tx, pull_id, digest)
            message = layer_messages.dispatch(tx, pull_id, digest)
            outbox.layers += [message] if message else []
            outbox.layers += hand_over(tx, _attempt(current, work), but=pull_id)
        current.resources.spoken_for.give_back(pull_id, digest)
