"""Pulls of an image that has just been linked are completed with it, a batch at a time."""

from collections.abc import Sequence

from shared.catalog import duplicates, pull_layers, pulls
from shared.catalog.pull_values import Pull
from shared.oci.manifest import Layer
from workers.pulling.outbox import Outbox
from workers.pulling.receipts import receipt_of
from workers.resources import Resources


def complete_duplicates(
    resources: Resources, linked: Pull, layers: Sequence[Layer], outbox: Outbox
) -> None:
    """Complete a batch of the pulls that wait for the same image. One of those that are left is
    linked next, by a message of its own, and completes the next batch.
    """
    with resources.catalog.begin() as tx:
        found = duplicates.lock(tx, linked)
        if not found:
            return
        ids = [pull.id for pull in found]
        fetched = pull_layers.of_pulls(tx, ids, str(linked.registry))
        now = pulls.clock(tx)
        receipts = {pull.id: receipt_of(pull, layers, fetched[pull.id], now) for pull in found}
        completed = duplicates.complete(tx, receipts, now)
        left = duplicates.lock(tx, linked) if len(found) == duplicates.BATCH else []
    for pull in completed:
        outbox.end_as(pull)
    outbox.links += [pull.id for pull in left[:1]]
