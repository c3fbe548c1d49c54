"""Every fault that a fleet may meet, with real processes, and what must hold after each.

    servers        a PostgreSQL and a Redis of a single test, which may kill and freeze them
    mounts         a filesystem of any size
    separate_node  a node with its own mount and limits, so that it alone can be in trouble
    processes      the process tree, and signals to it
    fleet          workers and reconcilers that a test can kill, freeze and end
    load           the pulls that are under way during a fault, and waiting until they have ended
    apps           many images that share a base
    invariants     nothing lost, nothing stuck, nothing fetched twice, nothing corrupt

Each fault is tried once. `TOWLINE_TRIALS=10 pytest tests/acceptance/faults` tries each ten times;
with `-s` it also prints how many bytes were fetched twice.
"""
