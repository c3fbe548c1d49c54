"""The admission window: how many messages may be under way, for urgent pulls and for all.

It keeps every slot of the fleet busy, and keeps the queues in Redis short enough that a pull that
is admitted later does not wait behind thousands of messages.
"""

from dataclasses import dataclass

from sqlalchemy import text

from shared.catalog.admission.pauses import IS_PAUSED
from shared.catalog.database.catalog import Connection

# From this priority on a pull is urgent: a part of the window and some slots are reserved for it.
URGENT_PRIORITY = 8

_MESSAGES_PER_SLOT = 4
_SMALLEST_WINDOW = 16
# While the number of slots is unknown: no reconciler has counted them, or no worker has answered.
_UNKNOWN_WINDOW = 64
# Size of the urgent part, in percent of the window. It is added to the window.
_URGENT_PERCENT = 25

# Counts what is under way, in messages: admitted pulls without a plan, and layers with a message.
#
# - Paused pulls do not count, nor do pulls that wait for more than 15 seconds: they have no
#   message.
# - Pulls that wait for space count for at most half of the window, since others may need no space.
# - Urgent ones fill the urgent part first; only what exceeds it counts against the window.
#
# The layers with a message are read first, by their partial index, and only then their pulls
# (OFFSET 0 keeps that order): the rows of followers may be thousands and are not read.
UNDER_WAY = f"""
    SELECT size, urgent_size, urgent, plain + greatest(urgent - urgent_size, 0)
        + least(without_space, size / 2) AS used, without_space
    FROM (SELECT size, greatest(size * {_URGENT_PERCENT} / 100, 1) AS urgent_size FROM (
        SELECT coalesce((SELECT greatest(layer_slots * {_MESSAGES_PER_SLOT}, {_SMALLEST_WINDOW})
            FROM fleet WHERE layer_slots IS NOT NULL), {_UNKNOWN_WINDOW}) AS size
        ) AS slots) AS window_sizes,
    LATERAL (
        WITH messages AS MATERIALIZED (
            SELECT pull_id, digest FROM pull_layers WHERE has_message
        ), counted AS (
            SELECT p.priority, coalesce(p.waiting_for->>'cause' = 'space', false) AS needs_space
            FROM pulls p
            WHERE p.admitted_at IS NOT NULL AND p.state IN ('queued', 'resolving')
              AND NOT {IS_PAUSED}
              AND (p.not_before IS NULL OR p.not_before < now() + interval '15 seconds'
                OR p.waiting_for->>'cause' = 'space')
            UNION ALL
            SELECT p.priority, false FROM messages CROSS JOIN LATERAL (
                SELECT p.priority FROM pulls p
                WHERE p.id = messages.pull_id AND p.state = 'fetching' AND NOT {IS_PAUSED} OFFSET 0
            ) AS p
            LEFT JOIN blobs b ON b.digest = messages.digest
            WHERE b.stored_at IS NULL
        )
        SELECT count(*) FILTER (WHERE NOT needs_space AND priority >= {URGENT_PRIORITY}) AS urgent,
            count(*) FILTER (WHERE NOT needs_space AND priority < {URGENT_PRIORITY}) AS plain,
            count(*) FILTER (WHERE needs_space) AS without_space
        FROM counted
    ) AS counts
"""

_LOOK = text(UNDER_WAY)


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
    return Window(**{name: int(value) for name, value in tx.execute(_LOOK).one()._mapping.items()})
