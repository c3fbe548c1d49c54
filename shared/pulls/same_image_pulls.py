"""Complete the other pulls of an image that has just been linked, one batch at a time."""

from collections.abc import Sequence

from shared.catalog.database.catalog import Connection
from shared.catalog.layers import pull_layers
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle, same_image
from shared.oci.manifest import Layer
from shared.pulls.context import Context
from shared.pulls.outbox import Outbox
from shared.pulls.receipts import receipt_of


def complete_duplicates(
    context: Context, linked: Pull, layers: Sequence[Layer], outbox: Outbox
) -> None:
    """Complete a batch of the pulls that wait for the same image.

    If more are left, one of them is sent to be linked; it then completes the next batch.
    """
    with context.catalog.begin() as tx:
        found = same_image.lock(tx, linked)
        done = same_image.that_change_nothing(tx, linked, found)
        completed = _complete(tx, linked, layers, done) if done else []
        may_be_more = len(found) == same_image.BATCH or len(done) < len(found)
        left = same_image.lock(tx, linked) if may_be_more else []
    for pull in completed:
        outbox.end_with_row(pull)
    outbox.links += [pull.id for pull in left[:1]]


def link_next(context: Context, pull_id: str, outbox: Outbox) -> None:
    """Have the best other pull of the same image linked, if all of its layers are stored.

    Does nothing unless this pull failed or was cancelled.
    """
    with context.catalog.begin() as tx:
        ended = lifecycle.get(tx, pull_id)
        if ended is None or ended.state not in {"failed", "cancelled"}:
            return
        next_id = same_image.next_to_link(tx, ended) if ended.manifest_digest else None
    outbox.links += [next_id] if next_id else []


def _complete(
    tx: Connection, linked: Pull, layers: Sequence[Layer], done: Sequence[Pull]
) -> Sequence[Pull]:
    fetched = pull_layers.of_pulls(tx, [pull.id for pull in done], str(linked.registry))
    now = lifecycle.clock(tx)
    receipts = {pull.id: receipt_of(pull, layers, fetched[pull.id], now) for pull in done}
    return same_image.complete(tx, receipts, now)
