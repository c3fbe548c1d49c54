"""Which pulls run now, which wait, and why.

recording        recording a new pull, and admitting it at once where possible
admission        which waiting pulls go next
candidates       the oldest waiting pulls of each priority, registry and requester
waiting_pulls    waiting pulls, and how admitted pulls go back to waiting
window           how many messages may be under way
space            space on the volume, reserved for planned pulls
pauses           what an operator has paused
registry_holds   registries that asked the fleet to wait
waiting_reasons  why a pull waits, kept true
reason_order     which reason a pull waits for, where several apply
"""
