"""The worker of the embedded stack: imports its libraries while the servers start.

Celery's command line connects right after its imports. Here the worker waits for the servers in
between, so that both start in parallel. That makes a command on a warm machine a second faster.
"""

import logging
import os
import sys
import time

import celery.apps.worker
import celery.concurrency.thread
import kombu.transport.redis

from shared.pulls import linking, planning
from shared.pulls.layers import fetching
from shared.settings import Settings
from workers.celery_apps import make_app
from workers.consuming import consume
from workers.embedded.state import FIRST_WORKER, StackHome
from workers.queues.broker_messages import BrokerMessages
from workers.queues.queue_access import QueueUnavailable

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.02
_CONCURRENCY = 8

# Modules that the app imports when it starts. Imported here, before the servers are ready.
_LOADED = (
    celery.apps.worker,
    celery.concurrency.thread,
    kombu.transport.redis,
    fetching,
    linking,
    planning,
)


def main() -> None:
    """Wait for the servers, then consume until the process is killed.

    Arguments: a file to touch when it consumes, and FIRST_WORKER or nothing.
    """
    ready, *others = sys.argv[1:]
    home = StackHome.below(Settings.read().home)
    while not home.read().ready:
        time.sleep(_POLL_SECONDS)
    os.environ.update(home.read().environment)
    if FIRST_WORKER in others:
        _take_over_messages(Settings.read())
    options = ["-P", "threads", "-c", str(_CONCURRENCY), "-E", "-n", "towline@%h"]
    options += ["--loglevel=INFO", "--without-mingle", "--without-gossip"]
    consume([*options, "--alive", ready])


def _take_over_messages(settings: Settings) -> None:
    """Return the messages of the previous stack's worker to their queues.

    That worker was killed. Redis keeps the messages that it had fetched, and the reconciler would
    wait one lease time before it sends them again, because their worker might be alive. The worker
    that replaces one that died does not do this: a message that kills its worker has to wait.
    """
    app = make_app(settings)
    broker = BrokerMessages(app)
    try:
        if count := broker.give_back_all():
            _log.warning("Returned %s messages of an earlier worker to their queues.", count)
    except QueueUnavailable as error:
        # The reconciler sends them again later.
        _log.warning("%s", error)
    finally:
        broker.close()
        app.close()


if __name__ == "__main__":
    main()
