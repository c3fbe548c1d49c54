"""Waiters of a layer: the other pulls of a registry that want what one pull fetches.

A waiter is a row of pull_layers, without a message and without a slot. When the lease holder stops
before the blob is stored, the best waiter (highest priority, then oldest) gets a message and
continues with the same bytes, but with its own repository and credentials.

Locks are taken in one order everywhere: pulls by id, blobs by digest, pull_layers, leases. A
transaction may skip a kind, but never goes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    false,
    func,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.layers import messages
from shared.catalog.layers.messages import LayerMessage
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.expressions import by_key, constant, parameter_rows
from shared.catalog.model.predicates import (
    by_turn,
    is_alive,
    is_due,
    is_in,
    is_missing,
    is_open,
    is_paused,
    is_stored,
)
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls
from shared.catalog.model.waiting_for import waits_for
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


_REGISTRY, _DIGEST = bindparam("registry", type_=Text()), bindparam("digest", type_=Text())
_BUT = bindparam("but", type_=Text())

# The best pull in `fetching` that wants the layer from this registry and is due, other than `but`.
_NEXT_WAITER = (
    select(Pulls.id)
    .join_from(PullLayers, Pulls, Pulls.id == PullLayers.pull_id)
    .outerjoin(Blobs, Blobs.digest == PullLayers.digest)
    .where(
        PullLayers.digest == _DIGEST,
        Pulls.registry == _REGISTRY,
        Pulls.id != _BUT,
        is_in(Pulls, "fetching"),
        ~is_paused(Pulls),
        is_missing(Blobs),
        is_due(PullLayers),
    )
    .order_by(*by_turn(Pulls))
    .limit(constant(1))
)


# The same, but none while a live lease or the message of another pull covers the layer.
def _next_without_cover() -> Select[str]:
    best = _NEXT_WAITER.subquery("best")
    lease = select(Leases.fence).where(
        Leases.registry == _REGISTRY, Leases.digest == _DIGEST, is_alive(Leases)
    )
    sent, other = aliased(PullLayers, name="sent"), aliased(Pulls, name="other")
    sender = messages.pull_that_sent(
        sent, other, other.registry == _REGISTRY, other.id != _BUT, ~is_paused(other)
    )
    message = (
        select(sent.digest).join(sender, true()).where(sent.digest == _DIGEST, sent.has_message)
    )
    return select(best.c.id).where(~lease.exists(), ~message.exists())


_NEXT_WITHOUT_COVER = _next_without_cover()


def dispatch_next_waiter(
    tx: Connection, registry: str, digest: Digest, but: str
) -> list[LayerMessage]:
    """Dispatch the layer to its best waiter other than the pull `but`. Returns at most one message.

    Call it in the transaction that has released the lease. Then no moment exists in which the layer
    has neither a lease nor a message.
    """
    return _dispatch_to(tx, _NEXT_WAITER, registry, digest, but)


def dispatch_follower(
    tx: Connection, registry: str, digest: Digest, but: str
) -> list[LayerMessage]:
    """Dispatch the layer to the best follower of the pull `but`, which cannot use its own message.

    That pull has ended or is paused, and its followers have no message. Returns no message where a
    live lease or another message covers the layer anyway.
    """
    return _dispatch_to(tx, _NEXT_WITHOUT_COVER, registry, digest, but)


def _dispatch_to(
    tx: Connection, choice: Select[str], registry: str, digest: Digest, but: str
) -> list[LayerMessage]:
    values = {"digest": str(digest), "registry": registry, "but": but}
    best = tx.execute(choice, values).scalar()
    return [message] if best and (message := messages.dispatch(tx, best, digest)) else []


def _may_take_slot() -> Select[bool]:
    urgent, slots = bindparam("urgent", type_=Integer()), bindparam("slots", type_=Integer())
    sent, pulls = aliased(PullLayers, name="sent"), aliased(Pulls, name="p")
    sender = messages.pull_that_sent(sent, pulls, pulls.registry == _REGISTRY)
    highest = (
        select(func.max(sender.c.priority))
        .select_from(sent)
        .join(sender, true())
        .where(sent.digest == _DIGEST, sent.has_message)
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


# The layers that wait for a slot are found by `pull_layers_parked_idx`, however many layers are
# under way.
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
    """After a slot became free: dispatch the best layer that waits for one."""
    best = tx.execute(_PARKED).one_or_none()
    if best is None:
        return []
    message = messages.dispatch(tx, best.id, Digest.parse(best.digest))
    return [message] if message else []


_LOCK = (
    select(Pulls.id)
    .join(PullLayers, PullLayers.pull_id == Pulls.id)
    .where(PullLayers.digest == _DIGEST, Pulls.registry == _REGISTRY, is_open(Pulls))
    .order_by(Pulls.id)
    .with_for_update(of=Pulls)
)


def lock_pulls_that_want(tx: Connection, registry: str, digest: Digest) -> list[str]:
    """Return the open pulls that want this layer from this registry, their rows locked by id."""
    return list(tx.execute(_LOCK, {"digest": str(digest), "registry": registry}).scalars())
