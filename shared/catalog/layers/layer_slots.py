"""The fleet's slots for layers: which layer may take one, and which waits for one.

Slots are counted by live leases. Some of them are reserved for urgent pulls. A layer that finds no
slot waits for its turn without a message, until another layer ends.
"""

from sqlalchemy import Integer, Select, Text, and_, bindparam, func, or_, select, true
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import by_key, constant
from shared.catalog.layers import messages
from shared.catalog.layers.messages import LayerMessage
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.predicates import by_turn, is_alive, is_in, is_missing, is_paused
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls
from shared.catalog.model.waiting_for import waits_for
from shared.oci.digest import Digest


def _may_take_slot() -> Select[bool]:
    registry, digest = bindparam("registry", type_=Text()), bindparam("digest", type_=Text())
    urgent, slots = bindparam("urgent", type_=Integer()), bindparam("slots", type_=Integer())
    sent, pulls = aliased(PullLayers, name="sent"), aliased(Pulls, name="p")
    sender = messages.pull_that_sent(sent, pulls, pulls.registry == registry)
    highest = (
        select(func.max(sender.c.priority))
        .select_from(sent)
        .join(sender, true())
        .where(sent.digest == digest, sent.has_message)
    )
    taken = (
        select(func.count())
        .select_from(Leases)
        .outerjoin(Pulls, Pulls.id == Leases.pull_id)
        .where(
            is_alive(Leases),
            ~Leases.is_companion,
            func.coalesce(Pulls.priority, constant(0)) < urgent,
        )
    )
    return select(
        or_(
            func.coalesce(highest.scalar_subquery(), constant(0)) >= urgent,
            taken.scalar_subquery() < slots,
        )
    )


_MAY_TAKE_SLOT = _may_take_slot()


def may_take_slot(tx: Connection, registry: str, digest: Digest, urgent: int, slots: int) -> bool:
    """Whether this layer may take one of the fleet's slots.

    It may if a pull that has a message for it has at least the priority `urgent`, or if layers of
    lower priority hold fewer than `slots` slots. Companions take no slot.
    """
    values = {"digest": str(digest), "registry": registry, "urgent": urgent, "slots": slots}
    return tx.execute(_MAY_TAKE_SLOT, values).scalar_one()


# The layers that wait for a slot are found by `pull_layers_waiting_for_turn_idx`, however many
# layers are under way.
def _parked() -> Select[str, str]:
    now = func.clock_timestamp()
    parked = (
        select(PullLayers.pull_id, PullLayers.digest)
        .where(waits_for(PullLayers, "turn"), PullLayers.not_before > now)
        .cte("parked")
        .prefix_with("MATERIALIZED")
    )
    is_parked = and_(PullLayers.pull_id == parked.c.pull_id, PullLayers.digest == parked.c.digest)
    return (
        select(Pulls.id, PullLayers.digest)
        .join_from(parked, PullLayers, is_parked)
        .join(Pulls, Pulls.id == parked.c.pull_id)
        .outerjoin(Blobs, Blobs.digest == PullLayers.digest)
        .where(
            by_key(is_in(Pulls, "fetching")),
            by_key(waits_for(PullLayers, "turn")),
            PullLayers.not_before > now,
            is_missing(Blobs),
            ~is_paused(Pulls),
        )
        .order_by(*by_turn(Pulls))
        .limit(constant(1))
        .with_for_update(of=PullLayers, skip_locked=True)
    )


_PARKED = _parked()


def dispatch_waiting_for_slot(tx: Connection) -> list[LayerMessage]:
    """Dispatch the best layer that waits for a slot. Call it when a slot has become free."""
    best = tx.execute(_PARKED).one_or_none()
    if best is None:
        return []
    message = messages.dispatch(tx, best.id, Digest.parse(best.digest))
    return [message] if message else []
