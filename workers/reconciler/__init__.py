"""The reconciler: it keeps pulls going when a message, a worker or all of Redis is lost.

PostgreSQL says what should be going on, and Redis says which messages are on their way. Work for
which there is neither a lease nor a message is sent again.

    reconciler        `towline reconcile`: any number of replicas, of which one is the leader
    rounds            one round: what is open, what is lost, what is sent again and explained
    redis_losses      what Redis itself has lost: answers, and messages of pulls without a row
    urgent_requests   records urgent pulls whose messages are behind thousands of others
    pages             goes through a long list page by page
    lost_work         what should run and has had no message in two rounds in a row
    slot_counter      which workers there are, and how many tasks they can run at once

A reconciler claims each message by its generation before it sends it. So two reconcilers that both
take themselves for the leader do no harm: only one of them can claim it.
"""
