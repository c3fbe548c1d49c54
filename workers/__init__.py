"""The processes of towline: everything that imports Celery, and the commands.

The way of a pull:
    contract     names of tasks and queues, which never change
    config       Celery's settings, each with its reason
    celery_apps  the fleet's Celery app, and the one that sends callers' callbacks
    messages     messages and answers: the client, what tasks send, what callers get
    queues       the queues in Redis: what is read first, and which messages they hold
    app          the Celery app of the workers, put together
    tasks        the tasks: arguments, a use case, its end for Celery; progress for Flower
    resources    builds what a process works with, after the fork
    reconciler   `towline reconcile`: finds work whose message is gone, or whose lease expired since
                 its worker died (`lost_work.py`), and sends it again

The processes:
    consuming     `celery worker` without the plug-ins of the `celery` command
    process       what every worker process needs: grace time, logs, memory
    health        a sick node takes itself out of the fleet, and comes back
    celery_fixes  repairs of defects in Celery and kombu, each to be deleted once upstream mends it

The operator's side:
    cli        the command line `towline`
    preparing  makes a database and a directory into a fleet's
    doctor     `towline explain` and `towline doctor`: questions about a fleet
    embedded   the embedded stack of one machine
"""
