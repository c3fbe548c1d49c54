"""Companions: small layers that a task fetches along with its own small layer of the same pull.

A layer of a few kilobytes costs more in statements than in bytes. So the task of a small layer
takes its share of the pull's small layers: their number divided by the fleet's slots, so that all
slots get equally many. One statement begins all of them, and one stores them. Each companion has
its own lease, but only the task's own layer takes a slot.
"""

from datetime import timedelta

from sqlalchemy import (
    CTE,
    BigInteger,
    Executable,
    Interval,
    Text,
    bindparam,
    false,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant
from shared.catalog.layers import pull_layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.fleet_tables import Fleet
from shared.catalog.model.predicates import is_in, is_missing
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls, fences
from shared.catalog.model.waiting_for import NOTHING, cause_of
from shared.oci.digest import Digest

SMALL_BYTES = 128 * 1024

# A bound on what is lost with a worker: each companion of a killed worker has to be fetched again.
_MOST = 15


_PULL_ID, _DIGEST = bindparam("of_pull", type_=Text()), bindparam("of_digest", type_=Text())
_OWNER = bindparam("new_owner", type_=Text())


def _share() -> CTE:
    """How many layers this task takes.

    It has no row, and so there are no companions, while the fleet's slots are unknown.
    """
    slots = func.greatest(
        Fleet.layer_slots - bindparam("reserved_slots", type_=BigInteger()), constant(1)
    )
    return (
        select(func.ceil(func.count() / slots).label("layers"))
        .select_from(Fleet)
        .join(PullLayers, true())
        .join(Blobs, Blobs.digest == PullLayers.digest)
        .where(
            Fleet.layer_slots > constant(0),
            PullLayers.pull_id == _PULL_ID,
            PullLayers.size_bytes <= constant(SMALL_BYTES),
            or_(PullLayers.attempts > constant(0), is_missing(Blobs)),
        )
        .group_by(Fleet.layer_slots)
        .cte("share")
    )


def _chosen(share: CTE) -> CTE:
    """The layers that were never tried and have no lease, living or not; at most the share.

    A layer that has failed or was left by a dead worker is fetched alone, so that a poison layer
    does no harm to others. The task's own layer comes first. Then come layers that wait for a slot
    or another pull: they have no message. Then the last layers in manifest order, since messages
    are sent from the first on, and other tasks reach the last ones latest.
    """
    mine = aliased(PullLayers, name="mine")
    has_lease = select(Leases.fence).where(Leases.digest.in_([mine.digest, _DIGEST])).exists()
    waits_for_others = func.coalesce(cause_of(mine), constant("turn")).in_(
        [constant("turn"), constant("pull")]
    )
    return (
        select(mine.digest, mine.size_bytes, Pulls.registry)
        .select_from(share)
        .join(Pulls, true())
        .join(mine, mine.pull_id == Pulls.id)
        .join(Blobs, Blobs.digest == mine.digest)
        .where(
            share.c.layers > constant(1),
            Pulls.id == _PULL_ID,
            is_in(Pulls, "fetching"),
            mine.size_bytes <= constant(SMALL_BYTES),
            mine.attempts == constant(0),
            waits_for_others,
            is_missing(Blobs),
            ~has_lease,
        )
        .order_by(mine.digest != _DIGEST, mine.waiting_for.is_(None), mine.position.desc())
        .limit(
            select(func.least(share.c.layers, constant(1 + _MOST)))
            .correlate(None)
            .scalar_subquery()
        )
        .with_for_update(of=mine, skip_locked=True)
        .cte("chosen")
    )


def _taken(chosen: CTE) -> CTE:
    """The new leases. They are inserted in digest order, so that two such statements cannot
    deadlock. A layer whose lease another transaction inserts first is left out.
    """
    now = func.clock_timestamp()
    lease = {
        Leases.registry: chosen.c.registry,
        Leases.digest: chosen.c.digest,
        Leases.owner: _OWNER,
        Leases.pull_id: _PULL_ID,
        Leases.fence: fences.next_value(),
        Leases.expires_at: now + bindparam("life", type_=Interval()),
        Leases.renewed_at: now,
        Leases.bytes_total: chosen.c.size_bytes,
        Leases.is_companion: chosen.c.digest != _DIGEST,
    }
    return (
        insert(Leases)
        .from_select(list(lease), select(*lease.values()).order_by(chosen.c.digest))
        .on_conflict_do_nothing()
        .returning(Leases.digest, Leases.fence)
        .cte("taken")
    )


def _take() -> Executable:
    taken = _taken(_chosen(_share()))
    return (
        update(PullLayers)
        .where(PullLayers.pull_id == _PULL_ID, PullLayers.digest == taken.c.digest)
        .values(attempts=constant(1), **NOTHING)
        .returning(
            *pull_layers.AS_RECORDED,
            PullLayers.source,
            PullLayers.waiting_for,
            PullLayers.not_before,
            false().label("stored"),
            constant(0).label("bytes_done"),
            _OWNER.label("owner"),
            _PULL_ID.label("leader"),
            taken.c.fence,
        )
    )


_TAKE = _take()


def take(
    tx: Connection,
    pull_id: str,
    digest: Digest,
    *,
    owner: str,
    lease_seconds: float,
    reserved_slots: int,
) -> list[tuple[PullLayer, int]]:
    """Begin this layer together with its companions: count the attempts and take the leases.

    Returns each layer with the fence of its lease, this layer first, then its companions by digest.
    Returns nothing, and begins nothing, if

    - the task's share is one layer or less. Slots reserved for urgent pulls do not count as slots;
    - the number of the fleet's slots is unknown;
    - the layer has a row in leases, of any registry, even if that lease was released or has
      expired.

    If another pull takes this layer's lease at the same moment, the answer holds companions alone.
    The leases are locked in digest order, so the transaction must not hold a lease already.
    """
    rows = tx.execute(
        _TAKE,
        {
            "of_pull": pull_id,
            "of_digest": str(digest),
            "new_owner": owner,
            "life": timedelta(seconds=lease_seconds),
            "reserved_slots": reserved_slots,
        },
    )
    taken = [(pull_layers.as_layer(row), row.fence) for row in rows]
    return sorted(taken, key=lambda pair: (pair[0].digest != digest, pair[0].digest))
