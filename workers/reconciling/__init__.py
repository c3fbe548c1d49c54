"""The reconciler: what keeps the promise when a message, a worker or all of Redis is lost.

    process.py   `towline reconcile`: any number of replicas, of which one is active
    rounds.py    one look: what is open, what is lost, what is sent again and explained
    missing.py   what is due and has no message, in two looks in a row
    losses.py    what Redis has lost: answers, and messages of pulls that have no row yet
    urgent.py    urgent pulls behind thousands of messages
    backlog.py   which messages Redis holds, and since when workers have held theirs
    pages.py     a long list is looked through page by page
    census.py    which workers there are, and how much they can do at once

PostgreSQL says what should go on and Redis what is on its way; what neither holds is sent again.
Each dispatch is claimed by its generation before it is sent, so that two reconcilers that both
think they are the active one are harmless.
"""
