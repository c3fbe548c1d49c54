"""The worker of the embedded stack: loads its libraries while the servers still start.

Celery's own command line would import first and connect at once; here the two are apart, so that a
command on a warm machine answers a second sooner.
"""

import os
import time

import celery.apps.worker
import celery.concurrency.thread
import kombu.transport.redis

from shared.settings import Settings
from workers.consuming import consume
from workers.pulling import fetching, linking, planning
from workers.stack.state import StackHome

_POLL_SECONDS = 0.02
_CONCURRENCY = 8

# What the app imports when it starts; here while nobody waits for it.
_LOADED = (
    celery.apps.worker,
    celery.concurrency.thread,
    kombu.transport.redis,
    fetching,
    linking,
    planning,
)


def main() -> None:
    """Wait for the servers, then consume until the end."""
    home = StackHome.below(Settings.read().home)
    while not home.read().ready:
        time.sleep(_POLL_SECONDS)
    os.environ.update(home.read().environment)
    options = ["-P", "threads", "-c", str(_CONCURRENCY), "-E", "-n", "towline@%h"]
    consume([*options, "--loglevel=INFO", "--without-mingle", "--without-gossip"])


if __name__ == "__main__":
    main()
