"""The life of a pull, from its record to its answer.

The state of a pull changes here, and in `admission/waiting_pulls.py`, which moves a pull back to
queued. `lifecycle.py` has the diagram.

lifecycle    from the record of a pull to linking
start        starting the first step of a pull, with its lease
known_image  the fast path of a pull whose image is on the volume
same_image   completing the other pulls of an image that was just linked
finish       the final states, and the record of the answer
"""
