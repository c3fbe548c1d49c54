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
    checks           the questions, by subject
    volume_proof     compares every row and reads every byte
"""
