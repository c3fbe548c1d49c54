"""Every fault that a fleet meets, with real processes, and what has to hold after each.

    servers.py      a PostgreSQL and a Redis that one test owns alone, to be killed and frozen
    mounts.py       a filesystem of one's own, of any size
    separate_node.py  a node with a mount and limits of its own, for troubles that are its alone
    processes.py    who is whose child
    fleet.py        workers and reconcilers that can be struck
    load.py         what is under way when the fault strikes, and waiting for its end
    invariants.py   nothing lost, nothing stuck, nothing twice, nothing corrupt

Each fault is tried once. `TOWLINE_TRIALS=10 pytest tests/acceptance/faults` tries it ten times, and
with `-s` prints how many bytes were fetched twice.
"""
