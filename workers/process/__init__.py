"""What every process of a worker needs, whatever its task.

    grace_time    the time that a worker gives its running tasks when it ends
    fleet_volume  opens the volume that belongs to the catalog
    logs          log lines with the ids of task, pull and layer, as text or JSON

Nothing here knows of pulls or messages, so every other room may import it.
"""
