"""Requests to a source: the wait can be aborted, and every body is closed."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from shared.download.progress import Abortable, Progress
from shared.download.source import request_body
from shared.errors import PullCancelled
from tests.support.waiting import wait_until

CANCELLED = PullCancelled("The pull was cancelled.")


class Body(nullcontext[Any]):
    closed = False

    def __exit__(self, *_: object) -> None:
        self.closed = True


class Source:
    """A source that returns `body` after `may()`."""

    patience_seconds = 60.0
    serves_ranges = True

    def __init__(self, body: Body, may: Callable[[], object] = lambda: None) -> None:
        self._body = body
        self._may = may

    def open(self, _first: int, _end: int) -> Any:
        self._may()
        return self._body

    def exclude(self, _body: object = None) -> bool:
        return False


def test_a_stop_at_the_same_time_as_the_response_closes_the_body() -> None:
    class Late(Progress):
        @contextmanager
        def waiting(self, seconds: float) -> Iterator[None]:
            with super().waiting(seconds):
                yield
                self.stop(CANCELLED)

    body = Body()
    with pytest.raises(PullCancelled):
        request_body(Source(body), 0, 10, Late())
    assert body.closed


def test_an_aborted_wait_raises_cancelled_error_and_closes_the_late_body() -> None:
    body, may = Body(), threading.Event()
    waits: list[Abortable] = []

    def asked(waiting: Abortable) -> None:
        waits.append(waiting)
        waiting.abort()

    with pytest.raises(CancelledError):
        request_body(Source(body, may.wait), 0, 10, Progress(), asked)
    may.set()
    wait_until(lambda: body.closed)


def test_no_activity_is_expected_while_a_request_waits() -> None:
    progress, due = Progress(), []

    def may() -> None:
        progress.beat()
        due.append(progress.active_at - time.monotonic())

    with request_body(Source(Body(), may), 0, 10, progress):
        assert due[0] > 50
        assert progress.active_at <= time.monotonic()
