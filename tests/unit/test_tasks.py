"""The wire: names, queues and options, read back as Celery understood them."""

from dataclasses import fields

import pytest
from celery.exceptions import Reject

from shared import errors
from shared.catalog.pull_values import Pull
from shared.settings import Settings
from workers import contract, handover, tasks
from workers.answering import failure
from workers.app import app
from workers.config import make_app
from workers.tasks import cancel_pull, fetch_layer, link_image, pull_image, resume_pull


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


def test_redis_is_told_of_each_pull_that_it_runs_but_not_of_each_layer() -> None:
    assert fetch_layer.track_started is False
    assert all(task.track_started for task in (pull_image, link_image, resume_pull, cancel_pull))


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


def test_a_message_that_cannot_be_sent_again_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unsent(**_: object) -> None:
        # What Celery does, and the message would be gone.
        raise Reject(OSError("no descriptor is left"), requeue=False)

    monkeypatch.setattr(pull_image, "retry", unsent)
    raised = tasks._retry(pull_image, 5)
    assert isinstance(raised, Reject)
    assert raised.requeue is True


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
