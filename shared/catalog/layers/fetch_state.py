"""Everything that decides whether a layer is fetched now, read in one statement.

Every layer's task runs it first, so it has to be cheap.
"""

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, select, true
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import by_key
from shared.catalog.layers import messages
from shared.catalog.layers import pull_layers as layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.fleet_tables import Fleet
from shared.catalog.model.predicates import is_alive, is_missing, paused_sentence
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls
from shared.catalog.model.pull_values import Pull
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class FetchState:
    """A pull, one of its layers, and what may keep the layer from being fetched now.

    `layer`: None where the pull does not list it. `paused`: the sentence of a pause that applies.
    `layer_slots`: how many layers the fleet can fetch at once, None while that is unknown.
    `more_urgent`: a layer behind this one in the queue is more urgent, so this one should yield.
    """

    pull: Pull
    layer: PullLayer | None
    paused: str | None
    layer_slots: int | None
    more_urgent: bool

    @property
    def listed(self) -> PullLayer:
        """The layer. Raises ValueError if the pull does not list it."""
        if self.layer is None:
            raise ValueError(f"the pull {self.pull.id} does not list the layer")
        return self.layer


# Whether the message of a more urgent layer is behind this layer's message in the queue, and the
# layer is not being fetched. Redis serves messages in the order they were sent, so only messages
# that were sent later than this layer's count.
#
# This layer counts with the highest priority of the pulls of its registry that have a message for
# it. All rows are found by the index of layers with a message; only then are their pulls looked up.
def _more_urgent() -> ColumnElement[bool]:
    theirs, blob = aliased(PullLayers, name="theirs"), aliased(Blobs, name="blob")
    lease = aliased(Leases, name="lease")
    their_pull = messages.pull_that_sent(theirs, aliased(Pulls, name="other"))
    is_lease = and_(
        lease.registry == their_pull.c.registry,
        lease.digest == theirs.digest,
        by_key(is_alive(lease)),
    )
    return (
        select(theirs.digest)
        .join(their_pull, true())
        .outerjoin(blob, blob.digest == theirs.digest)
        .outerjoin(lease, is_lease)
        .where(
            theirs.has_message,
            theirs.waiting_for.is_(None),
            theirs.digest != PullLayers.digest,
            their_pull.c.priority > _own_priority(),
            theirs.dispatched_at > PullLayers.dispatched_at,
            is_missing(blob),
            lease.fence.is_(None),
        )
        .correlate(Pulls, PullLayers)
        .exists()
    )


def _own_priority() -> ColumnElement[int]:
    sent, sharer = aliased(PullLayers, name="sent"), aliased(Pulls, name="sharer")
    sharing_pull = messages.pull_that_sent(sent, sharer, sharer.registry == Pulls.registry)
    highest = (
        select(func.max(sharing_pull.c.priority))
        .select_from(sent)
        .join(sharing_pull, true())
        .where(sent.digest == PullLayers.digest, sent.has_message)
        .correlate(Pulls, PullLayers)
    )
    return func.greatest(Pulls.priority, highest.scalar_subquery())


def _load() -> Select[Any]:
    is_layer = and_(PullLayers.pull_id == Pulls.id, PullLayers.digest == bindparam("digest"))
    is_lease = and_(Leases.digest == PullLayers.digest, Leases.registry == Pulls.registry)
    return (
        select(
            *(getattr(Pulls, name).label(f"pull_{name}") for name in _PULL),
            *layers.columns(),
            select(Fleet.layer_slots).scalar_subquery().label("layer_slots"),
            paused_sentence(Pulls).label("paused"),
            _more_urgent().label("more_urgent"),
        )
        .outerjoin_from(Pulls, PullLayers, is_layer)
        .outerjoin(Blobs, Blobs.digest == PullLayers.digest)
        .outerjoin(Leases, is_lease)
        .where(Pulls.id == bindparam("pull_id"))
    )


_PULL = [field.name for field in fields(Pull)]
_LOAD = _load()


def load(tx: Connection, pull_id: str, digest: Digest) -> FetchState | None:
    """Read a layer and what decides about it. None for an unknown pull. Locks nothing."""
    row = tx.execute(_LOAD, {"pull_id": pull_id, "digest": str(digest)}).one_or_none()
    if row is None:
        return None
    pull = Pull(**{name: row._mapping[f"pull_{name}"] for name in _PULL})
    layer = layers.as_layer(row) if row.digest is not None else None
    return FetchState(pull, layer, row.paused, row.layer_slots, row.more_urgent)
