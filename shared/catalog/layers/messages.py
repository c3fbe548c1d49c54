"""Messages to fetch a layer: recorded here in the transaction, sent by the worker after its commit.

`pull_layers.has_message` is true while a message for the layer is queued or unacknowledged. These
events change it:

- It is set when the message is dispatched.
- It is cleared when the layer is stored, when the pull ends, and when the message's task ends
  without storing the layer, because the layer follows another pull or waits for longer than a
  message may. The reconciler clears what is left of pulls that have ended.

Of the pulls of one registry that want a layer, one sends the message, and the others follow it. A
follower's row waits and has no message. So thousands of pulls of one image cost as many messages as
the image has layers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import (
    Executable,
    FromClause,
    Integer,
    Interval,
    Select,
    SQLColumnExpression,
    Text,
    and_,
    bindparam,
    case,
    false,
    func,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import (
    KEEPS_ORDER,
    by_key,
    constant,
    is_one_of,
    parameter_rows,
)
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.predicates import is_alive, is_due, is_final, is_in, is_missing, is_paused
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls
from shared.catalog.model.waiting_for import NEXT_CHECK, NOTHING, reason
from shared.oci.digest import Digest

_now = func.clock_timestamp()


@dataclass(frozen=True, slots=True)
class LayerMessage:
    """A message to fetch a layer, to be sent once its dispatch is committed."""

    pull_id: str
    reference: str
    digest: Digest
    generation: int


def pull_that_sent(
    sent: type[PullLayers], pulls: type[Pulls], *conditions: SQLColumnExpression[bool]
) -> FromClause:
    """Return the pull in `fetching` that has the message `sent`, to be joined to that row.

    The rows with a message are found by their index, and only then the pulls.
    """
    return (
        select(pulls.id, pulls.registry, pulls.priority, pulls.created_at)
        .where(pulls.id == sent.pull_id, by_key(is_in(pulls, "fetching")), *conditions)
        .offset(KEEPS_ORDER)
        .correlate_except(pulls)
        .lateral()
    )


# `leader`: the pull of a live lease on the layer, or else the best pull that has a message for it.
# The blobs' rows are locked by the caller (`stored_blobs.expect_blobs`), so of two pulls that plan
# the same layer at once, the second one sees the message of the first and follows it.
#
# A pull of a lower priority is not followed: its message may stand behind many others. An urgent
# layer sends its own message, which makes others yield to it (`fetch_state.py`).
#
# The rows of followers must not be read, whatever the planner expects of their number. So the own
# layers are found by the pull's id, those of other pulls by the index of layers with a message, and
# only then their pulls (`pull_that_sent`).
def _send_or_follow() -> Executable:
    asking, layer = aliased(Pulls, name="asking"), aliased(PullLayers, name="layer")
    sent, pulls = aliased(PullLayers, name="sent"), aliased(Pulls, name="p")
    # Every lease is written with its pull. Were one without, it must not read as "no lease".
    pull_of_lease = select(func.coalesce(Leases.pull_id, constant(""))).where(
        Leases.registry == asking.registry, Leases.digest == layer.digest, by_key(is_alive(Leases))
    )
    sender = pull_that_sent(
        sent,
        pulls,
        pulls.id != asking.id,
        pulls.registry == asking.registry,
        pulls.priority >= asking.priority,
        ~is_paused(pulls),
    )
    best_sender = (
        select(sender.c.id)
        .select_from(sent)
        .join(sender, true())
        .where(sent.digest == layer.digest, sent.has_message, sent.waiting_for.is_(None))
        .order_by(sender.c.priority.desc(), sender.c.created_at)
        .limit(constant(1))
    )
    leader = func.coalesce(
        pull_of_lease.correlate(asking, layer).scalar_subquery(),
        best_sender.correlate(asking, layer).scalar_subquery(),
    )
    own = (
        select(layer.digest, leader.label("leader"))
        .join_from(asking, layer, layer.pull_id == asking.id)
        .where(asking.id == bindparam("of_pull"), by_key(is_one_of(layer.digest, "digests")))
        .cte("own")
    )
    follows = own.c.leader.is_not(None)
    return (
        update(PullLayers)
        .where(
            PullLayers.pull_id == bindparam("of_pull"),
            by_key(PullLayers.digest == own.c.digest),
        )
        .values(
            generation=PullLayers.generation + constant(1),
            has_message=~follows,
            dispatched_at=case((~follows, _now)),
            waiting_for=case((follows, reason(constant("pull"), _now + NEXT_CHECK, own.c.leader))),
            not_before=null(),
        )
        .returning(PullLayers.digest, own.c.leader)
    )


_SEND_OR_FOLLOW = _send_or_follow()


def send_or_follow(
    tx: Connection, pull_id: str, missing: Sequence[Digest]
) -> dict[Digest, str | None]:
    """Decide for each missing layer of a planned pull whether to send a message or to follow.

    Returns the pull that is followed, by layer; None for a layer whose message is to be sent. The
    caller must have locked the blobs' rows.
    """
    rows = tx.execute(
        _SEND_OR_FOLLOW, {"of_pull": pull_id, "digests": [str(digest) for digest in missing]}
    )
    return {Digest.parse(row.digest): row.leader for row in rows}


_SEEN = bindparam("seen", type_=Integer())
_DISPATCH = (
    update(PullLayers)
    .where(
        PullLayers.pull_id == bindparam("of_pull"),
        PullLayers.digest == bindparam("of_digest"),
        Pulls.id == PullLayers.pull_id,
        or_(_SEEN.is_(None), PullLayers.generation == _SEEN),
    )
    .values(
        generation=PullLayers.generation + constant(1),
        has_message=true(),
        dispatched_at=_now,
        **NOTHING,
    )
    .returning(Pulls.reference, PullLayers.generation)
)


def dispatch(
    tx: Connection, pull_id: str, digest: Digest, generation: int | None = None
) -> LayerMessage | None:
    """Record that a layer's message is sent, and return it; None where another process was faster.

    `generation`: the layer's generation when the decision was made. If it has changed since,
    another process has sent a message. None: dispatch in any case.
    """
    row = tx.execute(
        _DISPATCH, {"of_pull": pull_id, "of_digest": str(digest), "seen": generation}
    ).one_or_none()
    return LayerMessage(pull_id, row.reference, digest, row.generation) if row else None


@dataclass(frozen=True, slots=True)
class DoubtfulLayer:
    """A layer that has had a message, and whose tasks have begun it `attempts` times."""

    pull_id: str
    digest: Digest
    generation: int
    attempts: int


# In doubt is a layer whose live lease is this pull's own, since its worker may have been killed, or
# that has no live lease and whose message is older than a lease time. A layer under another pull's
# live lease is being fetched.
def _doubtful() -> Select[str, int, int]:
    life = bindparam("life", type_=Interval())
    is_lease = and_(
        Leases.registry == Pulls.registry,
        Leases.digest == PullLayers.digest,
        by_key(is_alive(Leases)),
    )
    return (
        select(PullLayers.digest, PullLayers.generation, PullLayers.attempts)
        .join(Pulls, Pulls.id == PullLayers.pull_id)
        .outerjoin(Blobs, Blobs.digest == PullLayers.digest)
        .outerjoin(Leases, is_lease)
        .where(
            Pulls.id == bindparam("pull_id"),
            PullLayers.has_message,
            is_missing(Blobs),
            is_due(PullLayers),
            case(
                (Leases.fence.is_not(None), Leases.pull_id == Pulls.id),
                else_=PullLayers.dispatched_at < _now - life,
            ),
        )
        .order_by(PullLayers.digest)
    )


_DOUBTFUL = _doubtful()


def doubtful(tx: Connection, pull_id: str, lease_seconds: float) -> list[DoubtfulLayer]:
    """Return the layers of a planned pull whose messages may be lost, or held by a killed worker.

    The caller checks the queue before it sends them again.
    """
    values = {"pull_id": pull_id, "life": timedelta(seconds=lease_seconds)}
    return [
        DoubtfulLayer(pull_id, Digest.parse(row.digest), row.generation, row.attempts)
        for row in tx.execute(_DOUBTFUL, values)
    ]


_FORGET = (
    update(PullLayers)
    .where(PullLayers.pull_id == bindparam("of_pull"), PullLayers.has_message)
    .values(has_message=false())
)


def forget_messages(tx: Connection, pull_id: str) -> None:
    """Forget the messages of a pull that has ended: their tasks find nothing to do."""
    tx.execute(_FORGET, {"of_pull": pull_id})


# Such messages are left where a pull ended while its message was dispatched, or was completed with
# other pulls of its image.
def _forget_ended() -> Executable:
    page, sent = parameter_rows("page", id=Text()), aliased(PullLayers, name="sent")
    ended = (
        select(sent.pull_id, sent.digest)
        .select_from(page)
        .join(Pulls, Pulls.id == page.c.id)
        .join(sent, sent.pull_id == Pulls.id)
        .where(is_final(Pulls), sent.has_message)
        .with_for_update(of=sent, skip_locked=True)
        .cte("ended")
    )
    return (
        update(PullLayers)
        .where(PullLayers.pull_id == ended.c.pull_id, PullLayers.digest == ended.c.digest)
        .values(has_message=false())
    )


_FORGET_ENDED = _forget_ended()


def forget_messages_of_ended(tx: Connection, pull_ids: Collection[str]) -> None:
    """Forget the messages of those of these pulls that have ended."""
    if pull_ids:
        tx.execute(_FORGET_ENDED, {"page_id": list(pull_ids)})
