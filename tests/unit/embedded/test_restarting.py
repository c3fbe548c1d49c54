"""What the supervisor of the embedded stack does when a worker or a reconciler dies."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import CatalogUnavailable
from tests.support.waiting import wait_until
from workers.embedded import restarting
from workers.embedded.child_process import Child
from workers.embedded.restarting import RestartedProcess
from workers.embedded.state import State


class Worker:
    """A process that is started as often as necessary, and killed by the test."""

    def __init__(self, directory: Path) -> None:
        self.ready = directory / "worker.ready"
        self.starts: list[bool] = []
        self._log = directory / "worker.log"
        self._children: list[Child] = []

    def start(self, first: bool) -> Child:
        self.starts.append(first)
        command = ["sleep", "60"]
        self._children.append(Child("The worker", command, self._log, signal.SIGKILL))
        return self._children[-1]

    def kill(self) -> None:
        self._children[-1].stop(5)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path)
    yield worker
    worker.kill()


def test_a_worker_that_was_killed_is_started_again(worker: Worker) -> None:
    restarted = RestartedProcess(worker.start, worker.ready)
    assert restarted.restart_if_dead() is None
    worker.ready.touch()
    worker.kill()
    assert restarted.restart_if_dead() == "The worker was killed (signal 9) and was started again."
    assert restarted.restart_if_dead() is None
    assert worker.starts == [True, False]


def test_a_worker_that_dies_before_it_is_ready_is_not_started_again(worker: Worker) -> None:
    # The file of an earlier stack does not count.
    worker.ready.touch()
    restarted = RestartedProcess(worker.start, worker.ready)
    worker.kill()
    with pytest.raises(CatalogUnavailable, match=r"was killed \(signal 9\) before it was ready"):
        restarted.restart_if_dead()
    assert worker.starts == [True]


@pytest.mark.parametrize("gets_ready", [True, False])
def test_a_worker_that_dies_five_times_in_a_row_is_not_started_again(
    worker: Worker, *, gets_ready: bool
) -> None:
    restarted = RestartedProcess(worker.start, worker.ready)
    worker.ready.touch()
    for _ in range(4):
        worker.kill()
        assert restarted.restart_if_dead() is not None
        # The file belongs to the process that made it.
        assert not worker.ready.exists()
        if gets_ready:
            worker.ready.touch()
    worker.kill()
    with pytest.raises(CatalogUnavailable, match=r"\(signal 9\) for the 5th time in a row"):
        restarted.restart_if_dead()


def test_a_worker_that_dies_long_after_it_was_ready_is_always_started_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarting, "_SETTLED_SECONDS", 0.0)
    restarted = RestartedProcess(worker.start, worker.ready)
    for _ in range(7):
        worker.ready.touch()
        worker.kill()
        assert restarted.restart_if_dead() is not None


def test_the_error_for_a_process_that_ended_by_itself_names_its_status(tmp_path: Path) -> None:
    child = Child("Flower", ["sh", "-c", "exit 3"], tmp_path / "flower.log", signal.SIGTERM)
    wait_until(lambda: not child.alive)
    assert "Flower of the embedded stack ended with status 3: see" in str(child.died())


def test_the_error_for_a_killed_process_does_not_quote_its_last_ordinary_line(
    tmp_path: Path,
) -> None:
    log = tmp_path / "worker.log"
    for command, quoted in (("echo Hello; kill -9 $$", False), ("echo Hello; exit 3", True)):
        child = Child("The worker", ["sh", "-c", command], log, signal.SIGKILL)
        wait_until(lambda child=child: not child.alive)  # type: ignore[misc]
        assert ("Hello" in str(child.died())) is quoted


def test_each_notice_is_read_once_and_only_the_last_few_are_kept() -> None:
    state = State()
    for number in range(12):
        before, state = state, state.noting(f"{number}")
        assert list(state.notices_since(before.restarts)) == [f"{number}"]
    assert list(state.notices_since(state.restarts)) == []
    assert list(state.notices_since(9)) == ["9", "10", "11"]
    assert len(state.notices_since(0)) == 10
