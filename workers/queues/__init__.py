"""The queues in Redis: who reads what first, and which messages they hold.

queue_order       short messages before layers, but not for ever
queue_access      the error for a Redis that does not answer
kombu_storage     kombu's private keys and formats in Redis, which no other module reads
pull_messages     what a message is for, read from what kombu stored
broker_messages   which messages are on their way, as lists and as unacknowledged ones
redis_identity    which data Redis holds, and which run of its server answers
"""
