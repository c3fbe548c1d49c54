"""Which errors of PostgreSQL are an outage, by their SQLSTATE: another try may cure them.

Everything that is not listed here is a mistake of ours, or was not foreseen. An outage is tried
again for as long as it lasts and is never counted against a pull, so a mistake must not look like
one. Source: PostgreSQL's manual, "PostgreSQL Error Codes".
"""

from dataclasses import dataclass
from enum import Enum

from sqlalchemy.exc import DBAPIError


class Lost(Enum):
    """Which sessions are of no use after an outage."""

    NONE = "the session goes on with its next transaction"
    OWN = "the session is broken, or its server is"
    ALL = "every session that is open leads to the wrong server"


@dataclass(frozen=True, slots=True)
class Outage:
    """`reason` completes "the database …"."""

    reason: str
    lost: Lost = Lost.OWN


_AWAY = Outage("does not answer")
_PREPARED = Outage("forgot a prepared statement: a pooler between mixes sessions")

# A whole code, or the class that its first two characters name; a code goes before its class.
_OUTAGES = {
    "08": Outage("broke the connection off"),
    # A hot standby before its promotion, a primary after its demotion, or a provider's full disk.
    "25006": Outage("is read-only", Lost.ALL),
    # The worker stood still between two statements: a paused VM, swap, SIGSTOP.
    "25P03": Outage("ended a transaction that stood still for too long"),
    "25P04": Outage("ended a transaction that took too long"),
    "26000": _PREPARED,
    "42P05": _PREPARED,
    "40": Outage("gave up one of two transactions that were in each other's way", Lost.NONE),
    "53": Outage("has no memory, disk or connection left"),
    "55P03": Outage("did not get a lock in time", Lost.NONE),
    "57": Outage("is shutting down, starting, or ended the statement"),
    "58": Outage("met an error of its system"),
    "XX": Outage("met an internal error"),
}

# Says what it means in words only: 0A000 is any feature that is not supported.
_REPLANNED = Outage("changed a table under a prepared statement")
_CACHED_PLAN = "cached plan must not change result type"


def outage_of(error: DBAPIError) -> Outage | None:
    """The outage that an error tells of; None for one that another try does not cure."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None:
        # The connection was refused, lost or timed out before the server could say why.
        return _AWAY
    if state == "0A000" and _CACHED_PLAN in str(error.orig):
        return _REPLANNED
    return _OUTAGES.get(state) or _OUTAGES.get(state[:2])
