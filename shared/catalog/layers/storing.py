"""Record that layers are stored, and find the pulls that this completes.

`store_layers` records the blobs and ends their leases, after the files are published: a row never
points at bytes that are not on the volume. `find_whole_pulls` then updates the pulls and finds
those that are whole.

The two run in separate transactions, and `store_layers` must be committed first. So of layers that
are stored at the same time, the `find_whole_pulls` of the last one sees all of them, and no whole
pull is missed. Besides, `find_whole_pulls` locks pulls, which come before blobs and leases in the
lock order. A worker that dies between the two leaves whole pulls, which the reconciler finds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Select,
    Text,
    Update,
    bindparam,
    delete,
    false,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on

from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant, is_one_of, parameter_rows
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.predicates import by_turn, is_planned, is_stored, is_whole
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls
from shared.catalog.model.waiting_for import NOTHING
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A verified layer on the volume.

    `source`: how this pull got it, as in the receipt. `fetched_bytes`: bytes to be added to those
    the pull has fetched of it. `diff_id`: as computed from the layer's bytes, or None.
    """

    pull_id: str
    digest: Digest
    size_bytes: int
    source: str
    fetched_bytes: int = 0
    diff_id: Digest | None = None


_NOTHING_LEFT_TO_DO = {**NOTHING, "has_message": false()}


# One statement for all layers, since a pull may store many at once. It deletes the leases on these
# digests of every registry: their downloads are of no use any more. The heartbeat of another owner
# finds its lease gone and stops.
def _store() -> Update:
    arrived = stored_blobs.arrived_blobs()
    ended = (
        select(Leases.registry, Leases.digest)
        .where(is_one_of(Leases.digest, "arrived_digest"))
        .order_by(Leases.digest, Leases.registry)
        .with_for_update()
        .cte("ended")
    )
    delete_ended = delete(Leases).where(
        Leases.registry == ended.c.registry, Leases.digest == ended.c.digest
    )
    fetched = parameter_rows(
        "fetched", pull_id=Text(), digest=Text(), source=Text(), bytes=BigInteger()
    )
    return (
        update(PullLayers)
        .where(PullLayers.pull_id == fetched.c.pull_id, PullLayers.digest == fetched.c.digest)
        .values(
            source=fetched.c.source,
            bytes_fetched=PullLayers.bytes_fetched + fetched.c.bytes,
            **_NOTHING_LEFT_TO_DO,
        )
        .add_cte(stored_blobs.mark_stored(arrived).cte("stored"))
        .add_cte(stored_blobs.record_layers(arrived).cte("layer"))
        .add_cte(delete_ended.cte("gone"))
    )


_STORE = _store()


# Sums up what the pull has by now, and clears the messages that other pulls have for these blobs:
# their tasks will find nothing to do. The rows of followers are not written, since they may be
# thousands: `pull_layers.columns()` derives their state from the blob.
#
# The lock order is kept: PostgreSQL runs an UPDATE in a WITH that is not read after the main
# UPDATE, so the pull's row is locked before the layers' rows.
def _update_pulls() -> Update:
    clear_messages = (
        update(PullLayers)
        .where(is_one_of(PullLayers.digest, "digests"), PullLayers.has_message)
        .values(source=func.coalesce(PullLayers.source, constant("joined")), **_NOTHING_LEFT_TO_DO)
    )
    stored_bytes = (
        select(func.coalesce(func.sum(PullLayers.size_bytes), constant(0)))
        .join(Blobs, (Blobs.digest == PullLayers.digest) & is_stored(Blobs))
        .where(PullLayers.pull_id == bindparam("of_pull"))
    )
    return (
        update(Pulls)
        .where(Pulls.id == bindparam("of_pull"), is_planned(Pulls))
        .values(bytes_done=func.greatest(Pulls.bytes_done, stored_bytes.scalar_subquery()))
        .add_cte(clear_messages.cte("told"))
    )


_UPDATE_PULLS = _update_pulls()


# One pull per image is enough: linking it completes the other pulls of the image (`same_image.py`).
def _whole() -> Select[str]:
    of_one_image = (Pulls.reference, Pulls.platform, Pulls.manifest_digest, Pulls.registry)
    is_own = Pulls.id == bindparam("of_pull")
    image = (
        select(Pulls.id)
        .ext(distinct_on(*of_one_image))
        .select_from(PullLayers)
        .join(Pulls, Pulls.id == PullLayers.pull_id)
        .where(is_one_of(PullLayers.digest, "digests"), is_planned(Pulls))
        .order_by(*of_one_image, is_own.desc(), *by_turn(Pulls))
        .cte("image")
    )
    return (
        select(image.c.id)
        .where(is_whole(image.c.id))
        .order_by(image.c.id == bindparam("of_pull"), image.c.id)
    )


_WHOLE = _whole()


def store_layers(tx: Connection, stored: Sequence[StoredLayer]) -> None:
    """Record that these layers are stored, for the pulls that fetched them. Ends their leases."""
    arrived = stored_blobs.arrived_values(
        [(layer.digest, layer.size_bytes, layer.diff_id) for layer in stored]
    )
    fetched = {
        "fetched_pull_id": [layer.pull_id for layer in stored],
        "fetched_digest": [str(layer.digest) for layer in stored],
        "fetched_source": [layer.source for layer in stored],
        "fetched_bytes": [layer.fetched_bytes for layer in stored],
    }
    tx.execute(_STORE, {**arrived, **fetched})


def find_whole_pulls(tx: Connection, digests: Sequence[Digest], pull_id: str) -> list[str]:
    """Update the pulls that want these layers, and return those whose images are whole. Call it
    after `store_layers`.

    It returns one pull per image. `pull_id`, the pull that the blobs were fetched for, comes last:
    its worker may link it at once, and the messages for the others should be sent by then.
    """
    stored = [str(digest) for digest in digests]
    values = {"digests": stored, "of_pull": pull_id}
    tx.execute(_UPDATE_PULLS, values)
    return list(tx.execute(_WHOLE, values).scalars())
