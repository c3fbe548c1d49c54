"""A node's own trouble never costs a pull: the node takes itself out, and comes back.

probe.py       can this process do what a layer takes? one look decides, never the exception
sickness.py    whether this node is sick: one memory for all processes of a worker
recovery.py    how long a node must be well before it works again
watch.py       a thread of the worker's main process: looks, and writes the node's row
gate.py        stops and starts consuming, in the thread that consumes

a step fails ──► probe ── well ──► a counted try, as anywhere
                   └── sick ──► nothing is counted, the message is given back
                                the gate closes ── well for a while ──► it opens
                                   ▲                                      │
                                   └── sick again at once: a longer while ┘

A child of a prefork pool that told of trouble, and still has it while the main process is well,
ends: the pool replaces it.
"""
