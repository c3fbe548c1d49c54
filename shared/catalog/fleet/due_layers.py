"""The layers of a round's pulls that should be fetched, and that no live lease covers.

As with pulls (`due_pulls.py`), a message is sent again only if the layer's generation is the one
that was seen here: `messages.dispatch`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    Interval,
    Select,
    Text,
    and_,
    bindparam,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import by_key, parameter_rows, seconds
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.predicates import (
    by_turn,
    free_at,
    is_due,
    is_in,
    is_missing,
    is_paused,
)
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class DueLayer:
    """A layer that should be fetched and has no live lease.

    `pull_id`: the best pull to fetch it for; a message of any other pull of the registry counts as
    well. `silent_seconds`: time since the last owner's lease expired; None where it was released in
    good order.
    """

    registry: str
    pull_id: str
    digest: Digest
    generation: int
    silent_seconds: float | None = None


def _due_layers() -> Select[Any]:
    # Distinct layers come first (`wanted`), so that leases and blobs are looked up once per layer
    # even if thousands of pulls want it. `rank` is the index in `ids` of a layer's best pull: an
    # array lookup in place of a join of two long lists.
    chosen = parameter_rows("chosen", id=Text())
    rank = func.row_number().over(order_by=[*by_turn(Pulls), Pulls.id])
    ranked = (
        select(Pulls.id, Pulls.registry, rank.label("rank"))
        .join_from(chosen, Pulls, Pulls.id == chosen.c.id)
        .where(by_key(is_in(Pulls, "fetching")), ~is_paused(Pulls))
        .cte("ranked")
        .prefix_with("MATERIALIZED")
    )
    wanted = (
        select(ranked.c.registry, PullLayers.digest, func.min(ranked.c.rank).label("rank"))
        .join_from(ranked, PullLayers, PullLayers.pull_id == ranked.c.id)
        .where(is_due(PullLayers))
        .group_by(ranked.c.registry, PullLayers.digest)
        .cte("wanted")
        .prefix_with("MATERIALIZED")
    )
    best = (
        select(func.array_agg(aggregate_order_by(ranked.c.id, ranked.c.rank)).label("ids"))
        .cte("best")
        .prefix_with("MATERIALIZED")
    )
    held = (
        select(free_at(Leases, bindparam("life", type_=Interval())).label("free_at"))
        .where(
            Leases.registry == wanted.c.registry,
            Leases.digest == wanted.c.digest,
            by_key(Leases.owner.is_not(None)),
        )
        .lateral("held")
    )
    now = func.clock_timestamp()
    return (
        select(
            wanted.c.registry,
            PullLayers.pull_id,
            PullLayers.digest,
            PullLayers.generation,
            seconds(now - held.c.free_at).label("silent_seconds"),
        )
        .select_from(best)
        .join(wanted, true())
        .join(
            PullLayers,
            and_(
                PullLayers.pull_id == best.c.ids[wanted.c.rank],
                PullLayers.digest == wanted.c.digest,
            ),
        )
        .outerjoin(Blobs, Blobs.digest == wanted.c.digest)
        .outerjoin(held, true())
        .where(is_missing(Blobs), or_(held.c.free_at.is_(None), held.c.free_at <= now))
        .order_by(wanted.c.rank, PullLayers.position)
    )


_LAYERS = _due_layers()


def layers(tx: Connection, page: Sequence[str], lease_seconds: float) -> list[DueLayer]:
    """Return the layers that these pulls want and no worker fetches, each with its best pull.

    They are ordered by that pull's priority and age, then by position.
    """
    life = timedelta(seconds=lease_seconds)
    return [
        DueLayer(
            row.registry,
            row.pull_id,
            Digest.parse(row.digest),
            row.generation,
            row.silent_seconds,
        )
        for row in tx.execute(_LAYERS, {"chosen_id": list(page), "life": life})
    ]
