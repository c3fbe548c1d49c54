"""The wire: names, queues and options, read back as Celery understood them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NoReturn
from unittest.mock import Mock

import pytest
from celery import Task
from celery.exceptions import Reject, Retry
from celery.signals import celeryd_init
from kombu.exceptions import OperationalError
from kombu.message import Message

from shared import errors
from shared.catalog.pull_values import Pull
from shared.settings import Settings
from workers import callbacks, contract, handover, tasks
from workers.answering import failure
from workers.app import app
from workers.config import make_app
from workers.tasks import (
    _again,
    _step,
    cancel_pull,
    fetch_layer,
    link_image,
    pull_image,
    resume_pull,
)


@pytest.mark.parametrize(
    ("task", "name", "queue", "ignores_result"),
    [
        (pull_image, "towline.pull_image", "towline.pulls", True),
        (fetch_layer, "towline.fetch_layer", "towline.layers", False),
        (link_image, "towline.link_image", "towline.pulls", False),
        (resume_pull, "towline.resume_pull", "towline.pulls", True),
        (cancel_pull, "towline.cancel_pull", "towline.control", False),
    ],
)
def test_a_task_has_its_name_its_queue_and_its_result(
    task: type, name: str, queue: str, *, ignores_result: bool
) -> None:
    assert task.name == name
    assert task.ignore_result is ignores_result
    assert task.acks_late is True
    assert task.reject_on_worker_lost is True
    # How often is decided by the error and counted in PostgreSQL.
    assert task.max_retries is None
    # What it was at work on when its worker ends is the next to be taken up.
    assert task.Request == "workers.handover:HandedOver"
    assert app.amqp.router.route({}, name)["queue"].name == queue


def test_redis_is_not_told_of_each_layer_that_starts() -> None:
    assert fetch_layer.track_started is False
    assert all(task.track_started for task in (link_image, resume_pull, cancel_pull))


def test_no_other_app_of_the_process_knows_our_tasks() -> None:
    assert not {name for name in app.outward.tasks if name.startswith("towline.")}


def message(task: Task, **headers: object) -> Message:
    """A message as a worker receives it."""
    told = {"id": "p", "task": task.name, **headers}
    return Message(
        body=json.dumps([[], {}, {}]),
        headers=told,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )


@pytest.mark.parametrize("told", [{"ignore_result": False}, {"ignore_result": None}, {}])
def test_no_header_has_celery_store_the_end_of_a_coordinator(told: dict[str, object]) -> None:
    received = handover.HandedOver(message(pull_image, **told), app=app, task=pull_image)
    assert received.ignore_result is True
    assert received.request_dict["ignore_result"] is True
    # An end that Celery gives it is another matter.
    assert received.store_errors is True


def test_what_a_sender_says_of_other_results_holds() -> None:
    told = message(cancel_pull, ignore_result=True)
    received = handover.HandedOver(told, app=app, task=cancel_pull)
    assert received.ignore_result is True
    assert received.store_errors is False
    assert not handover.HandedOver(message(cancel_pull), app=app, task=cancel_pull).ignore_result


@contextmanager
def at_work(task: Task) -> Iterator[None]:
    """As in a worker that runs this task."""
    task.push_request(
        id="p",
        called_directly=False,
        args=(),
        kwargs={"pull_id": "p", "generation": 1},
        delivery_info={"exchange": "", "routing_key": contract.PULLS},
        callbacks=[AFTER],
        chain=[AFTER],
        chord=AFTER,
        group="g",
        expires="2026-12-01T00:00:00+00:00",
    )
    try:
        yield
    finally:
        task.pop_request()


AFTER = {"task": "user.after", "args": [], "kwargs": {}, "options": {"queue": "user"}}


def test_a_message_that_is_sent_again_takes_along_what_its_sender_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(app, "send_task", lambda *_, **options: sent.append(options))
    with at_work(pull_image):
        again = _again(pull_image, 5, ValueError())
        callbacks.take_off(pull_image.request)
    assert isinstance(again, Retry)
    (options,) = sent
    assert (options["link"], options["chain"], options["chord"]) == ([AFTER], [AFTER], AFTER)
    assert (options["task_id"], options["group_id"]) == ("p", "g")
    assert (options["countdown"], options["expires"]) == (5, "2026-12-01T00:00:00+00:00")


def test_a_message_that_cannot_be_sent_again_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OperationalError("The queue is away.")

    monkeypatch.setattr(app, "send_task", refuse)
    with at_work(pull_image):
        again = _again(pull_image, 5)
    assert isinstance(again, Reject)
    assert again.requeue is True


@pytest.mark.parametrize(
    ("task", "told"), [(pull_image, Retry), (fetch_layer, errors.InternalError)]
)
def test_a_step_without_memory_does_not_end_its_whole_worker(
    task: Task, told: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "resources_of_well_node", Mock)
    monkeypatch.setattr(app, "send_task", lambda *_, **__: None)
    with at_work(task), pytest.raises(told), _step(task, "p"):
        raise MemoryError


@pytest.mark.parametrize("task", [pull_image, resume_pull])
def test_a_worker_that_cannot_build_its_tools_leaves_the_message_to_another(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> NoReturn:
        raise RuntimeError("something unforeseen")

    monkeypatch.setattr(tasks, "resources_of_well_node", fail)
    monkeypatch.setattr(app, "send_task", lambda *_, **__: None)
    with at_work(task), pytest.raises(Retry) as raised, _step(task, "p"):
        pass
    assert isinstance(raised.value.exc, errors.InternalError)


def test_a_worker_does_not_start_on_an_error_that_was_not_foreseen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOWLINE_BROKER_URL", "redis://h/0")
    monkeypatch.setenv("TOWLINE_DATABASE_URL", "postgresql://u:s3cr3t@h/d")

    def fail() -> NoReturn:
        raise ValueError("invalid literal for int() with base 10: 's3cr3t'")

    monkeypatch.setattr("workers.app.resources", fail)
    with pytest.raises(SystemExit) as ended:
        celeryd_init.send(sender=None)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "ValueError" in told
    assert "s3cr3t" not in told
    assert len(told.splitlines()) == 1


def test_a_worker_without_q_consumes_every_queue_of_the_contract() -> None:
    assert set(app.amqp.queues) == set(contract.QUEUES)
    for name, queue in app.amqp.queues.items():
        assert (queue.exchange.name, queue.routing_key) == (name, name)


def test_an_ending_worker_gives_its_tasks_a_grace_time() -> None:
    assert handover.GraceTime in app.steps["worker"]
    quick = make_app(Settings.read(grace_seconds=3))
    assert quick.conf.worker_soft_shutdown_timeout == 3
    # What waits in memory goes back at once all the same; an idle worker need not wait for it.
    assert not quick.conf.worker_enable_soft_shutdown_on_idle


def test_only_json_is_spoken() -> None:
    assert app.conf.accept_content == ["json"]
    assert (app.conf.task_serializer, app.conf.result_serializer) == ("json", "json")
    assert app.conf.task_default_priority is None


def test_no_client_waits_for_ever_on_a_silent_redis() -> None:
    options = app.conf.broker_transport_options
    assert options["socket_timeout"] == 15
    assert options["socket_connect_timeout"] == 5
    assert options["visibility_timeout"] == 86_400
    assert app.conf.redis_socket_timeout == 15


def test_results_go_where_they_are_told_and_to_the_broker_otherwise() -> None:
    urls = {"broker_url": "redis://b/0", "database_url": "postgresql://d/d"}
    assert make_app(Settings.read(**urls)).conf.result_backend == "redis://b/0"
    apart = make_app(Settings.read(**urls, result_url="redis://r/1"))
    assert apart.conf.result_backend == "redis://r/1"


def ended(state: str, error_class: str | None = None) -> Pull:
    """A pull that ended, its other columns empty."""
    row = dict.fromkeys(column.name for column in fields(Pull))
    told = {"error_class": error_class, "error_message": "A sentence.", "error_code": "CODE"}
    return Pull(**row | told | {"id": "p", "state": state})


@pytest.mark.parametrize("kind", ["ManifestUnknown", "RateLimited", "DigestMismatch"])
def test_a_failed_pull_is_answered_with_its_own_error(kind: str) -> None:
    error = failure(ended("failed", kind))
    assert isinstance(error, getattr(errors, kind))
    assert error.args == ("A sentence.", "CODE")


def test_a_cancelled_pull_is_answered_with_pull_cancelled() -> None:
    assert isinstance(failure(ended("cancelled")), errors.PullCancelled)


def test_an_unknown_class_in_the_row_is_still_an_answer() -> None:
    assert type(failure(ended("failed"))) is errors.TowlineError
