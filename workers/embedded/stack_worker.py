"""The worker of the embedded stack: imports its libraries while the servers start.

Celery's command line connects right after its imports. Here the worker waits for the servers in
between, so that both start in parallel. That makes a command on a warm machine a second faster.
"""

import os
import time

import celery.apps.worker
import celery.concurrency.thread
import kombu.transport.redis

from shared.pulls import linking, planning
from shared.pulls.layers import fetching
from shared.settings import Settings
from workers.consuming import consume
from workers.embedded.state import StackHome

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
    """Wait for the servers, then consume until the process is killed."""
    home = StackHome.below(Settings.read().home)
    while not home.read().ready:
        time.sleep(_POLL_SECONDS)
    os.environ.update(home.read().environment)
    options = ["-P", "threads", "-c", str(_CONCURRENCY), "-E", "-n", "towline@%h"]
    consume([*options, "--loglevel=INFO", "--without-mingle", "--without-gossip"])


if __name__ == "__main__":
    main()
