"""The admission window: how many messages may be under way, for urgent pulls and for all.

It keeps every slot of the fleet busy, and keeps the queues in Redis short enough that a pull that
is admitted later does not wait behind thousands of messages.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Subquery, false, func, or_, select, true, union_all

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import KEEPS_ORDER, by_key, constant, interval
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.fleet_tables import Fleet
from shared.catalog.model.predicates import has_no_plan, is_in, is_missing, is_paused
from shared.catalog.model.pull_tables import PullLayers, Pulls
from shared.catalog.model.waiting_for import waits_for

# From this priority on a pull is urgent: a part of the window and some slots are reserved for it.
URGENT_PRIORITY = 8

_MESSAGES_PER_SLOT = 4
_SMALLEST_WINDOW = 16
# While the number of slots is unknown: no reconciler has counted them, or no worker has answered.
_UNKNOWN_WINDOW = 64
# Size of the urgent part, in percent of the window. It is added to the window.
_URGENT_PERCENT = 25


def _sizes() -> Subquery:
    """Return the sizes of the window and of its urgent part."""
    slots = select(
        func.greatest(Fleet.layer_slots * constant(_MESSAGES_PER_SLOT), constant(_SMALLEST_WINDOW))
    ).where(Fleet.layer_slots.is_not(None))
    size = func.coalesce(slots.scalar_subquery(), constant(_UNKNOWN_WINDOW))
    whole = select(size.label("size")).subquery("whole")
    urgent_size = whole.c.size * constant(_URGENT_PERCENT) // constant(100)
    return select(
        whole.c.size, func.greatest(urgent_size, constant(1)).label("urgent_size")
    ).subquery("sizes")


def _messages() -> Subquery:
    """Return what is under way, one row per message: admitted pulls without a plan, and layers with
    a message.
    """
    needs_space = func.coalesce(waits_for(Pulls, "space"), false())
    # Paused pulls have no message, nor do pulls that wait for more than 15 seconds. Pulls that wait
    # for space are counted apart.
    is_soon = Pulls.not_before < func.now() + interval("15 seconds")
    coordinators = select(Pulls.priority, needs_space.label("needs_space")).where(
        Pulls.admitted_at.is_not(None),
        has_no_plan(Pulls),
        ~is_paused(Pulls),
        or_(Pulls.not_before.is_(None), is_soon, waits_for(Pulls, "space")),
    )
    # The layers with a message are read first, by their partial index, and only then their pulls:
    # the rows of followers may be thousands and are not read.
    sent = (
        select(PullLayers.pull_id, PullLayers.digest)
        .where(PullLayers.has_message)
        .cte("sent")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    pull = (
        select(Pulls.priority)
        .where(Pulls.id == sent.c.pull_id, by_key(is_in(Pulls, "fetching")), ~is_paused(Pulls))
        .offset(KEEPS_ORDER)
        .lateral("pull")
    )
    layers = (
        select(pull.c.priority, false())
        .select_from(sent)
        .join(pull, true())
        .outerjoin(Blobs, Blobs.digest == sent.c.digest)
        .where(is_missing(Blobs))
    )
    return union_all(coordinators, layers).subquery("messages")


def _under_way() -> Select[Any]:
    """Return the columns of `Window`.

    Pulls that wait for space count for at most half of the window, since others may need no space.
    Urgent messages fill the urgent part first; only what exceeds it counts against the window.
    """
    messages, sizes = _messages(), _sizes()
    is_urgent = messages.c.priority >= constant(URGENT_PRIORITY)
    number, needs_space = func.count(), messages.c.needs_space
    counts = select(
        number.filter(~needs_space, is_urgent).label("urgent"),
        number.filter(~needs_space, ~is_urgent).label("plain"),
        number.filter(needs_space).label("without_space"),
    ).subquery("counts")
    urgent, without_space = counts.c.urgent, counts.c.without_space
    used = (
        counts.c.plain
        + func.greatest(urgent - sizes.c.urgent_size, constant(0))
        + func.least(without_space, sizes.c.size // constant(2))
    )
    return select(
        sizes.c.size, sizes.c.urgent_size, urgent, used.label("used"), without_space
    ).select_from(sizes.join(counts, true()))


UNDER_WAY = _under_way()


@dataclass(frozen=True, slots=True)
class Window:
    """Size and use of the window and of its urgent part, in messages.

    `used` includes urgent messages beyond `urgent_size`. `without_space`: pulls that wait for
    space.
    """

    size: int
    used: int
    urgent_size: int
    urgent: int
    without_space: int

    @property
    def places(self) -> int:
        """How many more messages fit, for pulls of any priority."""
        return max(self.size - self.used, 0)

    @property
    def urgent_places(self) -> int:
        """How many more messages fit for urgent pulls: in the window and in the urgent part."""
        return self.places + max(self.urgent_size - self.urgent, 0)


def measure(tx: Connection) -> Window:
    """Count what is under way now. Takes no lock, so the counts may be outdated at once."""
    return Window(
        **{name: int(value) for name, value in tx.execute(UNDER_WAY).one()._mapping.items()}
    )
