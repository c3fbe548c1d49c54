"""Detects a sick node: one whose own trouble would fail pulls. Such a node stops taking work.

    probe         checks whether this process can do the work of a layer, here and now
    node_health   the state "sick" or "well", shared by all processes of a worker
    recovery      how long a node must be well before it takes work again
    node_monitor  a thread of the main process that probes and writes the node's row
    gate          stops and resumes consuming, in the thread that consumes

    a step fails ──► probe ── well ──► the failure counts as an attempt, as anywhere
                       └── sick ──► nothing is counted, the message is given back
                                    the gate closes ── well for some seconds ──► it opens
                                       ▲                                           │
                                       └── sick again soon: wait twice as long ────┘

A prefork child may be in trouble alone, while the main process finds the node well. A child that
reported trouble and still has it at its next step ends itself, and the pool replaces it.
"""
