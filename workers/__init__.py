"""The processes of towline: everything that imports Celery, and the commands.

What goes over the wire:
    contract  names of tasks and queues, which never change
    config    Celery's settings, each with its reason

The worker:
    app          the Celery app of the workers
    tasks        the tasks: arguments, a use case, its end for Celery; progress for Flower
    resources    builds what a process works with, after the fork
    dispatching  sends every message that a step leaves behind
    answering    stores the receipt or the failure as the result under the pull id
    callbacks    link, link_error, chain and chord of a caller: kept, and sent after the answer
    outward      the app that sends them, with Celery's defaults

Where Celery or kombu needs help:
    broker           closed channels, cached clients, many messages in one round trip
    broker_messages  which messages are on their way, as Redis holds them
    results          the result backend: a full Redis ends no task; under a pull id, answers alone
    handover         the grace time at shutdown; messages go back to the head of their queue
    unreadable       answers a pull whose message cannot be decoded
    shutdown         the grace time that the processes of a worker share
    queue_order      short messages before layers, but not for ever
    consuming        `celery worker` without the plug-ins of the `celery` command
    logs             log lines with the ids of task, pull and layer, as text or JSON

Other processes and commands:
    reconciler  `towline reconcile`: sends again what was lost
    health      a sick node takes itself out of the fleet, and comes back
    client      our own client: writes the row first, and sends second
    preparing   makes a database and a directory into a fleet's
    doctor      `towline explain` and `towline doctor`: questions about a fleet
    embedded    the embedded stack of one machine
    cli         the command line `towline`
"""
