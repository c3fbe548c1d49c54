"""Which errors of PostgreSQL are an outage, by SQLSTATE: those that a later attempt may not meet.

An outage is retried for as long as it lasts and is never counted against a pull. So a bug of ours
must not look like an outage: every code that is not listed here counts as a bug or as unforeseen.
Source: PostgreSQL's manual, "PostgreSQL Error Codes".
"""

from dataclasses import dataclass
from enum import Enum

from sqlalchemy.exc import DBAPIError


class LostSessions(Enum):
    """Which sessions are unusable after an outage."""

    NONE = "the session can run its next transaction"
    OWN = "this session is broken, or its server is"
    ALL = "every open session leads to the wrong server"


@dataclass(frozen=True, slots=True)
class Outage:
    """One kind of outage. `reason` completes "the database …"."""

    reason: str
    lost: LostSessions = LostSessions.OWN


_AWAY = Outage("does not answer")
_PREPARED = Outage("lost a prepared statement: a connection pooler in between mixes sessions")

# The key is a code or a class (the first two characters of a code). A code takes precedence over
# its class.
_OUTAGES = {
    "08": Outage("closed the connection"),
    # A hot standby before its promotion, a primary after its demotion, or a managed database that
    # its provider has made read-only because its disk is full.
    "25006": Outage("is read-only", LostSessions.ALL),
    # The worker stopped between two statements: a paused VM, swapping, SIGSTOP.
    "25P03": Outage("ended a transaction that was idle for too long"),
    "25P04": Outage("ended a transaction that took too long"),
    "26000": _PREPARED,
    "42P05": _PREPARED,
    "40": Outage("rolled back one of two conflicting transactions", LostSessions.NONE),
    "53": Outage("is out of memory, disk space or connections"),
    "55P03": Outage("could not get a lock in time", LostSessions.NONE),
    "57": Outage("is shutting down or starting up, or cancelled the statement"),
    "58": Outage("met an error of its operating system"),
    "XX": Outage("met an internal error"),
}

# Recognised by its text: the code 0A000 is shared by every unsupported feature.
_REPLANNED = Outage("changed a table under a prepared statement")
_CACHED_PLAN = "cached plan must not change result type"


def outage_of(error: DBAPIError) -> Outage | None:
    """Return the outage behind an error; None for an error that a later attempt would meet again.

    Errors without an SQLSTATE are outages: the connection was refused, lost or timed out.
    """
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None:
        # The server could not say why.
        return _AWAY
    if state == "0A000" and _CACHED_PLAN in str(error.orig):
        return _REPLANNED
    return _OUTAGES.get(state) or _OUTAGES.get(state[:2])
