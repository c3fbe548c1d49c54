"""Waiters of a layer: the open pulls of a registry that want it while it is not stored.

All waiters but the one that fetches the layer are rows of pull_layers that wait. Most of them are
followers, which have neither a message nor a slot. When the lease holder stops before the blob is
stored, the best waiter (highest priority, then oldest) gets a message and continues with the same
bytes, but with its own repository and credentials.

Locks are taken in one order everywhere: pulls by id, blobs by digest, pull_layers, leases. A
transaction may skip a kind, but never goes back.
"""

from sqlalchemy import Select, Text, bindparam, select, true
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import by_key, constant
from shared.catalog.layers import messages
from shared.catalog.layers.messages import LayerMessage
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.predicates import (
    by_turn,
    is_alive,
    is_due,
    is_in,
    is_missing,
    is_open,
    is_paused,
)
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls
from shared.oci.digest import Digest

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
        Leases.registry == _REGISTRY, Leases.digest == _DIGEST, by_key(is_alive(Leases))
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
