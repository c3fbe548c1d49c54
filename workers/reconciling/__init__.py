"""The reconciler: what keeps the promise when a message, a worker or all of Redis is lost.

    process.py   `towline reconcile`: any number of replicas, one in office
    rounds.py    one look: what is open, what is on its way, what has to be sent again
    losses.py    what Redis has lost: answers, and messages of pulls that have no row yet
    backlog.py   which messages Redis holds
    census.py    which workers there are, and how much they can do at once

PostgreSQL says what should go on and Redis what is on its way; what stands in neither is sent
again. Each dispatch is claimed by its generation before it is sent, so that two reconcilers that
both think they are in office are harmless.
"""
