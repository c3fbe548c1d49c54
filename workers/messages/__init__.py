"""Messages and answers: what the fleet sends and receives for a pull.

Messages:
    client               our own client: writes the row first, and sends second
    dispatching          sends every message that a step leaves behind, and delivers outboxes; what
                         Flower shows in place of the arguments
    fleet_request        a received message while its task runs: no result of a coordinator
    message_shape        what a message must look like, in either of Celery's protocols
    unreadable_messages  turns a message of another shape into one that is refused

Answers:
    answering       stores the receipt or the failure as the result under the pull id
    result_backend  what Celery itself may store: nothing under a pull id that has a row
    callbacks       link, link_error, chain and chord of a caller: kept, and sent after the answer
"""
