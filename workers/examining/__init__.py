"""Questions about a fleet that is not touched by being asked. Free of click: `workers/cli/` shows
the answers.

    facts.py        everything that one pull waits for, looked up in one transaction
    explaining.py   why a pull does not move, until when, what it would take, as sentences
    estimating.py   when it may be done, and how fast its bytes come

    finding.py      what an examination answers
    examination.py  the doctor's round: which checks there are, and in which order
    catalog.py      checks of the database, the reconciler and the promise about pulls
    queue.py        checks of Redis and of the workers that consume from it
    nodes.py        checks of the nodes: the sick and the silent
    volume.py       checks of the volume; deep.py those that read every byte
"""
