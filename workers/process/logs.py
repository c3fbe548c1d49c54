"""Log lines as text or JSON, each with the ids of its task, pull and layer."""

import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from celery.app import trace
from celery.exceptions import Reject
from celery.signals import after_setup_logger, after_setup_task_logger, task_postrun, task_prerun

_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default=MappingProxyType({}))


class _Formatter(logging.Formatter):
    """One line per record, with the ids of the running task after the message."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        identity = " ".join(f"{key}={value}" for key, value in _bound.get().items())
        return f"{line} [{identity}]" if identity else line


class _JsonFormatter(logging.Formatter):
    """One JSON object per record, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_bound.get(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def log_to_stderr(log_format: str) -> None:
    """Log in the workers' format, in a process that is not a worker."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def install(log_format: str) -> None:
    """Use our format for Celery's loggers, and log messages that are given back without alarm."""
    formatter = _formatter(log_format)

    def use_formatter(logger: logging.Logger, **_: Any) -> None:
        for handler in logger.handlers:
            handler.setFormatter(formatter)

    after_setup_logger.connect(use_formatter, weak=False)
    after_setup_task_logger.connect(use_formatter, weak=False)
    logging.getLogger(trace.__name__).addFilter(_calm)


def _calm(record: logging.LogRecord) -> bool:
    """Log a message that goes back to its queue as one INFO line. Celery logs a WARNING with a
    traceback, but giving messages back is part of a normal shutdown.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, Reject):
        reason, requeue = error.args
        if requeue:
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg = f"Task %(name)s[%(id)s] goes back to its queue: {reason}"
            record.exc_info = None
    return record.levelno >= logging.getLogger(record.name).getEffectiveLevel()


def _formatter(log_format: str) -> logging.Formatter:
    if log_format == "json":
        return _JsonFormatter()
    return _Formatter("%(asctime)s %(levelname)s %(message)s")


@task_prerun.connect
def _bind(task_id: str, kwargs: Mapping[str, Any], **_: Any) -> None:
    identity = {"task": task_id}
    identity |= {key: str(kwargs[key]) for key in ("pull_id", "digest") if key in kwargs}
    _bound.set(identity)


@task_postrun.connect
def _unbind(**_: Any) -> None:
    _bound.set(MappingProxyType({}))
