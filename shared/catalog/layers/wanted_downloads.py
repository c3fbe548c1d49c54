"""Downloads that are still wanted: which should go on, and for which pull.

A pull may end or be paused while its layer is fetched. The download then continues for the best
other pull that wants the layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Select, Text, and_, false, func, select, true, union_all

from shared.catalog.database.catalog import Connection
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.expressions import constant, parameter_rows
from shared.catalog.model.predicates import by_turn, is_open, is_paused, is_stored
from shared.catalog.model.pull_tables import PullLayers, Pulls
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a download under `fence` should go on, and for which pull.

    `pull_id`: the best open pull that wants the layer; None where there is none. `paused`: that
    pull is paused, and so are all others. `stored`: another worker has stored the blob.
    """

    fence: int
    pull_id: str | None
    paused: bool
    stored: bool


# Every heartbeat runs this. `own` finds the pull that the download is for by its key. Only if that
# pull has ended or is paused does `best` read the other pulls that want the layer, which may be
# thousands.
def _judge() -> Select[Any]:
    held = parameter_rows(
        "held", registry=Text(), digest=Text(), fence=BigInteger(), pull_id=Text()
    )
    wants_it = and_(PullLayers.pull_id == Pulls.id, PullLayers.digest == held.c.digest)
    own = (
        select(Pulls.id.label("pull_id"))
        .join(PullLayers, wants_it)
        .where(
            Pulls.id == held.c.pull_id,
            Pulls.registry == held.c.registry,
            is_open(Pulls),
            ~is_paused(Pulls),
        )
        .lateral("own")
    )
    paused = is_paused(Pulls).label("paused")
    best_of_all = (
        select(Pulls.id, paused)
        .join_from(PullLayers, Pulls, Pulls.id == PullLayers.pull_id)
        .where(
            own.c.pull_id.is_(None),
            PullLayers.digest == held.c.digest,
            Pulls.registry == held.c.registry,
            is_open(Pulls),
        )
        .order_by(paused, (Pulls.id == held.c.pull_id).desc(), *by_turn(Pulls))
        .limit(constant(1))
        .correlate(held, own)
    )
    only_own = (
        select(own.c.pull_id, false().label("paused"))
        .where(own.c.pull_id.is_not(None))
        .correlate(own)
    )
    best = union_all(only_own, best_of_all).lateral("best")
    return (
        select(
            held.c.fence,
            best.c.pull_id,
            func.coalesce(best.c.paused, false()).label("paused"),
            is_stored(Blobs).label("stored"),
        )
        .outerjoin_from(held, Blobs, Blobs.digest == held.c.digest)
        .outerjoin(own, true())
        .outerjoin(best, true())
    )


_JUDGE = _judge()


def judge_downloads(tx: Connection, held: Sequence[tuple[str, Digest, int, str]]) -> list[Verdict]:
    """Say for each download (registry, digest, fence, pull id) whether it should go on."""
    rows = tx.execute(
        _JUDGE,
        {
            "held_registry": [registry for registry, _, _, _ in held],
            "held_digest": [str(digest) for _, digest, _, _ in held],
            "held_fence": [fence for _, _, fence, _ in held],
            "held_pull_id": [pull_id for _, _, _, pull_id in held],
        },
    )
    return [Verdict(**row._mapping) for row in rows]
