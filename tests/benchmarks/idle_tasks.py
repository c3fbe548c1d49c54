"""The fleet's Celery app with two tasks that do nothing: the minimum that Celery and Redis cost.

`celery -A tests.benchmarks.idle_tasks worker` is a towline worker that has these tasks as well.
"""

from workers.app import app

NOTHING, END = "benchmarks.nothing", "benchmarks.end"


@app.task(name=NOTHING)
def nothing() -> str:
    """A header task. Its result is as long as a digest."""
    return "sha256:" + 64 * "0"


@app.task(name=END)
def end() -> None:
    """The body of a chord."""
