"""What `towline explain` and `towline doctor` report. Reads only; `workers/cli/` prints it.

Explaining one pull:

    pull_snapshot    what the catalog says about the pull, read in one transaction
    download_speeds  how fast its layers arrive
    estimates        when the pull may be done
    explanation      why it waits, until when, and what would unblock it

Checking a fleet:

    finding          the result of a check
    catalog_checks   checks of the database, the reconciler and the open pulls
    queue_checks     checks of Redis and of the workers that consume from it
    registry_checks  checks of the registries file, and of hosts that must not be asked now
    node_checks      checks of the nodes: which are sick, which are silent
    volume_checks    checks of the volume that cost little: identity and free space
    volume_proof     checks that compare every row and read every byte
    examination      all checks, in the order in which they depend on each other
"""
