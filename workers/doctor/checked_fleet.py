"""The fleet that is checked, and what every check may ask of it."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from shared.catalog.database.catalog import Catalog
from shared.settings import Settings

AWAY = (OperationalError, RedisError, OSError)


@dataclass(frozen=True)
class CheckedFleet:
    """The settings of this machine, and the fleet's database and queue."""

    settings: Settings
    catalog: Catalog
    app: Celery

    @cached_property
    def redis(self) -> Mapping[str, Any] | None:
        """What Redis says about itself (INFO); None if it cannot be reached."""
        connection = self.app.connection_for_read()
        try:
            connection.ensure_connection(max_retries=1, timeout=5)
            channel: Any = connection.default_channel
            info: Mapping[str, Any] = channel.client.info()
        except AWAY:
            return None
        finally:
            with suppress(*AWAY):
                connection.release()
        return info
