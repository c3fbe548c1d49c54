"""Names, queues and options of the tasks, read back as Celery understood them."""

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
from shared.catalog.model.pull_values import Pull
from shared.settings import Settings
from workers import contract, tasks
from workers.app import app
from workers.celery_apps import make_app
from workers.messages import callbacks, fleet_request
from workers.messages.answering import failure
from workers.process.grace_time import BeginGraceTime
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
    # The error decides how often, and PostgreSQL counts.
    assert task.max_retries is None
    # A message that an ending worker gives back is the next to be taken from its queue.
    assert task.Request == "workers.messages.fleet_request:FleetRequest"
    assert app.amqp.router.route({}, name)["queue"].name == queue


def test_redis_stores_no_state_when_a_layer_starts() -> None:
    assert fetch_layer.track_started is False
    assert all(task.track_started for task in (link_image, resume_pull, cancel_pull))


def test_no_other_app_of_the_process_knows_our_tasks() -> None:
    assert not {name for name in app.callback_app.tasks if name.startswith("towline.")}


def message(task: Task, **headers: object) -> Message:
    """A message as a worker receives it."""
    return Message(
        body=json.dumps([[], {}, {}]),
        headers={"id": "p", "task": task.name, **headers},
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )


@pytest.mark.parametrize("headers", [{"ignore_result": False}, {"ignore_result": None}, {}])
def test_no_header_makes_celery_store_the_result_of_a_coordinator(
    headers: dict[str, object],
) -> None:
    received = fleet_request.FleetRequest(message(pull_image, **headers), app=app, task=pull_image)
    assert received.ignore_result is True
    assert received.request_dict["ignore_result"] is True
    # But an end that Celery itself gives the message reaches the result backend.
    assert received.store_errors is True


def test_the_header_ignore_result_works_for_other_tasks() -> None:
    sent = message(cancel_pull, ignore_result=True)
    received = fleet_request.FleetRequest(sent, app=app, task=cancel_pull)
    assert received.ignore_result is True
    assert received.store_errors is False
    assert not fleet_request.FleetRequest(
        message(cancel_pull), app=app, task=cancel_pull
    ).ignore_result


@pytest.mark.parametrize(
    ("headers", "retries"), [({"retries": None}, 0), ({}, 0), ({"retries": 2}, 2)]
)
def test_a_message_without_a_number_of_retries_can_be_sent_again(
    headers: dict[str, object], retries: int
) -> None:
    received = fleet_request.FleetRequest(message(pull_image, **headers), app=app, task=pull_image)
    assert received.request_dict["retries"] == retries


@contextmanager
def at_work(task: Task) -> Iterator[None]:
    """Set the task's request as in a worker that runs it."""
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


def test_a_message_that_is_sent_again_keeps_its_callbacks_and_its_expiry(
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
        raise OperationalError("The queue is unavailable.")

    monkeypatch.setattr(app, "send_task", refuse)
    with at_work(pull_image):
        again = _again(pull_image, 5)
    assert isinstance(again, Reject)
    assert again.requeue is True


@pytest.mark.parametrize(
    ("task", "raised"), [(pull_image, Retry), (fetch_layer, errors.InternalError)]
)
def test_a_step_without_memory_does_not_end_its_whole_worker(
    task: Task, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "resources_of_healthy_node", Mock)
    monkeypatch.setattr(app, "send_task", lambda *_, **__: None)
    with at_work(task), pytest.raises(raised), _step(task, "p"):
        raise MemoryError


@pytest.mark.parametrize("task", [pull_image, resume_pull])
def test_a_worker_that_cannot_build_its_resources_sends_the_message_again(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> NoReturn:
        raise RuntimeError("something unexpected")

    monkeypatch.setattr(tasks, "resources_of_healthy_node", fail)
    monkeypatch.setattr(app, "send_task", lambda *_, **__: None)
    with at_work(task), pytest.raises(Retry) as raised, _step(task, "p"):
        pass
    assert isinstance(raised.value.exc, errors.InternalError)


def test_a_worker_does_not_start_after_an_unexpected_error(
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
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "s3cr3t" not in shown
    assert len(shown.splitlines()) == 1


def test_a_worker_without_q_consumes_every_queue_of_the_contract() -> None:
    assert set(app.amqp.queues) == set(contract.QUEUES)
    for name, queue in app.amqp.queues.items():
        assert (queue.exchange.name, queue.routing_key) == (name, name)


def test_an_ending_worker_gives_its_tasks_a_grace_time() -> None:
    assert BeginGraceTime in app.steps["worker"]
    quick = make_app(Settings.read(grace_seconds=3))
    assert quick.conf.worker_soft_shutdown_timeout == 3
    # Messages that wait in memory go back at once all the same, so an idle worker ends quickly.
    assert not quick.conf.worker_enable_soft_shutdown_on_idle


def test_only_json_is_sent_and_accepted() -> None:
    assert app.conf.accept_content == ["json"]
    assert (app.conf.task_serializer, app.conf.result_serializer) == ("json", "json")
    assert app.conf.task_default_priority is None


def test_no_client_waits_for_ever_for_a_redis_that_does_not_answer() -> None:
    options = app.conf.broker_transport_options
    assert options["socket_timeout"] == 15
    assert options["socket_connect_timeout"] == 5
    assert options["visibility_timeout"] == 86_400
    assert app.conf.redis_socket_timeout == 15


def test_results_go_to_the_result_url_or_else_to_the_broker() -> None:
    urls = {"broker_url": "redis://b/0", "database_url": "postgresql://d/d"}
    assert make_app(Settings.read(**urls)).conf.result_backend == "redis://b/0"
    separate = make_app(Settings.read(**urls, result_url="redis://r/1"))
    assert separate.conf.result_backend == "redis://r/1"


def ended(state: str, error_class: str | None = None) -> Pull:
    """A pull that has ended; its other columns are empty."""
    row = dict.fromkeys(column.name for column in fields(Pull))
    error = {"error_class": error_class, "error_message": "A sentence.", "error_code": "CODE"}
    return Pull(**row | error | {"id": "p", "state": state})


@pytest.mark.parametrize("kind", ["ManifestUnknown", "RateLimited", "DigestMismatch"])
def test_a_failed_pull_is_answered_with_its_own_error(kind: str) -> None:
    error = failure(ended("failed", kind))
    assert isinstance(error, getattr(errors, kind))
    assert error.args == ("A sentence.", "CODE")


def test_a_cancelled_pull_is_answered_with_pull_cancelled() -> None:
    assert isinstance(failure(ended("cancelled")), errors.PullCancelled)


def test_an_unknown_class_in_the_row_is_still_an_answer() -> None:
    assert type(failure(ended("failed"))) is errors.TowlineError
