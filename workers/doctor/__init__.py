"""What `towline explain` and `towline doctor` report. Reads only; `workers/cli/` prints it.

Explaining one pull:

    pull_snapshot    what the catalog says about the pull, read in one transaction
    download_speeds  how fast its layers arrive
    estimates        when the pull may be done
    explanation      why it waits, until when, and what would unblock it

Checking a fleet:

    checklist        every check as a table: its name, its question, what it needs
    checked_fleet    what the checks look at
    check_result     what a check found, and the words for it
    database_checks  PostgreSQL: the server, the schema, the clock
    redis_checks     Redis, which holds the messages and the answers
    fleet_checks     workers, nodes, the reconciler, pauses
    registry_checks  the registries file, and hosts that must not be asked now
    volume_checks    the volume: its identity and its free space
    pull_checks      no pull is lost, stuck or unanswered
    volume_proof     compares every row and reads every byte
"""
