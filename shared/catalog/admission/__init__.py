"""Which pulls run now, which wait, and why.

recording        recording a new pull, and admitting it at once where possible
admission        which waiting pulls go next
waiting_pulls    waiting pulls, and how admitted pulls go back to waiting
window           how many messages may be under way
space            space on the volume, reserved for planned pulls
pauses           what an operator has paused
registry_holds   registries that asked the fleet to wait
waiting_reasons  why a pull waits, kept true
"""
