"""Celery's request, the object of a message whose task is running, as our workers use it.

A sender's header `ignore_result` overrides the task's own setting. Clients up to Celery 5.6 always
send `false`. Then the end of the coordinator's task would be stored as the answer of its pull,
which has not ended yet.
"""

from typing import Any

from celery import Celery

from workers import contract
from workers.celery_fixes.cancelled_threads import StopsInThreads
from workers.celery_fixes.rejected_messages import KeepsItsPlace


class FleetRequest(StopsInThreads, KeepsItsPlace):
    """A message of ours. Celery stores no result of a coordinator, whatever its sender's header
    says.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Some clients send null, with which Celery could not send the message again.
        self.request_dict["retries"] = self.request_dict.get("retries") or 0
        if self._is_pull:
            self._ignore_result = self.request_dict["ignore_result"] = True

    @property
    def store_errors(self) -> bool:
        """Whether Celery calls the result backend when it ends this message itself.

        True for a pull: `workers/messages/result_backend.py` then decides by the pull's row.
        """
        return self._is_pull or super().store_errors

    @property
    def _is_pull(self) -> bool:
        return bool(self.type == contract.PULL_IMAGE)


def install(app: Celery) -> None:
    """Have every worker of this app use `FleetRequest`."""
    app.Task.Request = f"{__name__}:{FleetRequest.__name__}"
