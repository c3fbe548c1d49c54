"""Repairs of defects in Celery and kombu: one file per defect, and nothing of our own.

Each file says what goes wrong, where upstream, in which versions that was seen, and which issue
tells of it. Its test in `tests/unit/celery_fixes/` or `tests/integration/celery_fixes/` shows the
defect in the library as it is. When such a test fails, upstream has mended the defect: delete the
repair and the test. `pyproject.toml` allows only the versions in which all of them were seen.

    closed_channels     kombu: a closed channel raises an AttributeError, and the worker exits
    foreign_entries     kombu: an entry that is no message ends the worker
    reused_clients      kombu: each command makes a new Redis client, which is expensive
    rejected_messages   kombu: a message that is given back goes behind all others
    malformed_messages  Celery: a message of another shape ends the worker, or costs a slot
    refused_results     Celery: a result that Redis refuses costs a pool of threads a slot
    unread_results      Celery: subscribes to results that no process will read
    cancelled_threads   Celery: cancelling a task in a pool of threads raises

`closed_channels`, `foreign_entries` and `reused_clients` change kombu's class, in worker processes
only; `malformed_messages` changes a worker's consumer. The others are base classes of our own
backends and of our request class.
"""
