"""The fleet's own app with two tasks that do nothing: the floor that Celery and Redis set.

`celery -A tests.benchmarks.idle_tasks worker` is a worker of towline that knows them, too.
"""

from workers.app import app

NOTHING, END = "benchmarks.nothing", "benchmarks.end"


@app.task(name=NOTHING)
def nothing() -> str:
    """A header task; what it returns is as long as a digest."""
    return "sha256:" + 64 * "0"


@app.task(name=END)
def end() -> None:
    """The body of a chord."""
