"""The queues in Redis: which is read first, and which messages they hold.

    queue_order      short messages before layers, but not for ever
    queue_access     the error for a Redis that does not answer
    kombu_storage    kombu's private keys and formats in Redis
    pull_messages    what a message is for
    broker_messages  which messages are on their way: in a list, or fetched and unacknowledged
    redis_identity   which data Redis holds, and which run of its server answers

Only `kombu_storage` knows how kombu stores messages. It belongs to the same kombu versions as the
repairs in `workers/celery_fixes/`.
"""
