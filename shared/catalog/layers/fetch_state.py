"""Everything that decides whether a layer is fetched now, read in one statement.

Every layer's task runs it first, so it has to be cheap.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, select, text

from shared.catalog.admission.pauses import PAUSED_SENTENCE
from shared.catalog.database.catalog import Connection
from shared.catalog.layers import pull_layers as layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.content_tables import blobs
from shared.catalog.model.fleet_tables import fleet
from shared.catalog.model.pull_rows import COLUMNS
from shared.catalog.model.pull_tables import leases, pull_layers, pulls
from shared.catalog.model.pull_values import Pull
from shared.oci.digest import Digest

# Whether the message of a more urgent layer is behind this layer's message in the queue, and the
# layer is not being fetched. Redis serves messages in the order they were sent, so only messages
# that were sent later than this layer's count.
#
# This layer counts with the highest priority of the pulls of its registry that have a message for
# it. All rows are found by the index of layers with a message; OFFSET 0 makes the planner look up
# pulls after that.
_MORE_URGENT = """
    EXISTS (
        SELECT FROM pull_layers theirs CROSS JOIN LATERAL (
                SELECT other.priority, other.registry FROM pulls other
                WHERE other.id = theirs.pull_id AND other.state = 'fetching' OFFSET 0) AS other
            LEFT JOIN blobs b ON b.digest = theirs.digest
            LEFT JOIN leases l ON l.registry = other.registry AND l.digest = theirs.digest
                AND l.owner IS NOT NULL AND l.expires_at > clock_timestamp()
        WHERE theirs.has_message AND theirs.waiting_for IS NULL
          AND theirs.digest <> pull_layers.digest
          AND other.priority > greatest(p.priority, (
            SELECT max(sharer.priority) FROM pull_layers shared CROSS JOIN LATERAL (
                SELECT sharer.priority FROM pulls sharer WHERE sharer.id = shared.pull_id
                  AND sharer.registry = p.registry AND sharer.state = 'fetching' OFFSET 0
            ) AS sharer WHERE shared.digest = pull_layers.digest AND shared.has_message))
          AND theirs.dispatched_at > pull_layers.dispatched_at
          AND b.stored_at IS NULL AND l.fence IS NULL)
"""


@dataclass(frozen=True, slots=True)
class FetchState:
    """A pull, one of its layers, and what may keep the layer from being fetched now.

    `layer`: None where the pull does not list it. `paused`: the sentence of a pause that applies.
    `layer_slots`: how many layers the fleet can fetch at once, None while that is unknown.
    `more_urgent`: a layer behind it in the queue is more urgent, so this one should yield.
    """

    pull: Pull
    layer: PullLayer | None
    paused: str | None
    layer_slots: int | None
    more_urgent: bool

    @property
    def listed(self) -> PullLayer:
        """The layer, of a pull that lists it."""
        if self.layer is None:
            raise ValueError(f"the pull {self.pull.id} does not list the layer")
        return self.layer


def _statement() -> Select[Any]:
    p = pulls.alias("p")
    is_layer = (pull_layers.c.pull_id == p.c.id) & (pull_layers.c.digest == bindparam("digest"))
    is_lease = (leases.c.digest == pull_layers.c.digest) & (leases.c.registry == p.c.registry)
    return (
        select(
            *(p.c[column.name].label(f"pull_{column.name}") for column in COLUMNS),
            *layers.columns(),
            select(fleet.c.layer_slots).scalar_subquery().label("layer_slots"),
            text(f"{PAUSED_SENTENCE} AS paused"),
            text(f"{_MORE_URGENT} AS more_urgent"),
        )
        .select_from(
            p.outerjoin(pull_layers, is_layer)
            .outerjoin(blobs, blobs.c.digest == pull_layers.c.digest)
            .outerjoin(leases, is_lease)
        )
        .where(p.c.id == bindparam("pull_id"))
    )


# Built once: building the statement takes longer than running it.
_LOOK = _statement()


def load(tx: Connection, pull_id: str, digest: Digest) -> FetchState | None:
    """Read a layer and what decides about it. None for an unknown pull. Locks nothing."""
    row = tx.execute(_LOOK, {"pull_id": pull_id, "digest": str(digest)}).one_or_none()
    if row is None:
        return None
    pull = Pull(**{column.name: row._mapping[f"pull_{column.name}"] for column in COLUMNS})
    layer = layers.as_layer(row) if row.digest is not None else None
    return FetchState(pull, layer, row.paused, row.layer_slots, bool(row.more_urgent))
