"""The life of a pull, from its record to its answer.

`lifecycle.py` has the diagram of a pull's states, and names every function that changes one.

lifecycle    the states of a pull, from its record to linking
start        starting the first step of a pull, with its lease
known_image  the fast path of a pull whose image is on the volume
same_image   completing the other pulls of an image that was just linked
finish       the final states, and the record of the answer
listings     lists of pulls, for commands
"""
