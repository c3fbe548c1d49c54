"""Every setting of an operator: the variables `TOWLINE_*` as one frozen object.

`Settings.read()` reads the environment each time. A process that works on pulls reads them once
(`workers/resources.py`).

Each name holds its unit. `deploy/env.example` lists the same variables; a test compares the two.
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared import service_urls
from shared.errors import InvalidArgument

MIB = 1024 * 1024


class Settings(BaseSettings):
    """What an operator may set. Use `Settings.read()`: the constructor raises pydantic's errors."""

    model_config = SettingsConfigDict(
        env_prefix="TOWLINE_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        # A refused value may contain a password: the message names only the variable.
        hide_input_in_errors=True,
    )

    broker_url: SecretStr | None = None
    result_url: SecretStr | None = None
    database_url: SecretStr | None = None

    home: Path = Field(default_factory=lambda: user_data_path("towline"))
    volume: Path | None = None

    default_platform: str | None = None
    registries_file: Path | None = None
    allowed_registries: str = "*"
    blocked_registries: str = ""

    connect_timeout_seconds: float = Field(default=10, gt=0)
    stall_timeout_seconds: float = Field(default=30, gt=0)
    attempts: int = Field(default=5, ge=1)

    layer_connections: int = Field(default=8, ge=1)
    chunk_bytes: int = Field(default=16 * MIB, ge=64 * 1024)
    registry_connections: int = Field(default=64, ge=1)
    bandwidth_bytes_per_second: int | None = Field(default=None, gt=0)

    lease_seconds: float = Field(default=30, gt=0)
    grace_seconds: float = Field(default=25, ge=0)
    reconcile_seconds: float = Field(default=2, gt=0)
    reserved_slots: int = Field(default=1, ge=0)
    answer_seconds: int = Field(default=6 * 3600, ge=60)
    verify_diff_ids: bool = False
    minimum_free_bytes: int = Field(default=1024 * MIB, ge=0)
    log_format: Literal["text", "json"] = "text"

    @classmethod
    def read(cls, **overrides: Any) -> "Settings":
        """The settings of this process. Raises InvalidArgument, which names the variable."""
        try:
            settings = cls(**overrides)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            variable = f"TOWLINE_{'_'.join(str(part) for part in first['loc'])}".upper()
            # Our own wording and no `from`: pydantic's error would show the refused value.
            raise InvalidArgument(f"{variable} cannot be used: {first['msg']}.") from None
        if (settings.broker_url is None) != (settings.database_url is None):
            missing = "TOWLINE_DATABASE_URL" if settings.broker_url else "TOWLINE_BROKER_URL"
            raise InvalidArgument(
                f"{missing} is not set: set both URLs for a fleet, or neither for the embedded "
                "stack."
            )
        settings._check_urls()
        return settings

    def _check_urls(self) -> None:
        if self.database_url is not None:
            service_urls.database_url(self.database_url.get_secret_value())
        if self.broker_url is not None:
            broker = self.broker_url.get_secret_value()
            service_urls.check_broker_url(broker)
            if self.result_url is None and ";" in broker:
                raise InvalidArgument(
                    "TOWLINE_BROKER_URL names several servers: set TOWLINE_RESULT_URL to the one "
                    "that stores the results."
                )
        if self.result_url is not None:
            service_urls.check_result_url(self.result_url.get_secret_value())

    @property
    def embedded(self) -> bool:
        """Whether no fleet is configured, so that the embedded stack below `home` is used."""
        return self.database_url is None

    @property
    def volume_path(self) -> Path:
        """Where the volume is mounted. Raises InvalidArgument for a fleet without a volume."""
        if self.volume is not None:
            return self.volume.absolute()
        if not self.embedded:
            raise InvalidArgument(
                "TOWLINE_VOLUME is not set: set it to the directory where the volume is mounted."
            )
        return self.home.absolute() / "volume"

    @property
    def sqlalchemy_url(self) -> str:
        """The database URL with the scheme that selects psycopg 3."""
        url = self.database_url.get_secret_value() if self.database_url else ""
        return service_urls.database_url(url)

    def allows(self, registry: str, repository: str) -> bool:
        """Whether the operator's lists allow pulls of `repository` from `registry`, which is a host
        or host:port.
        """
        return _listed(registry, repository, self.allowed_registries) and not _listed(
            registry, repository, self.blocked_registries
        )


def _listed(registry: str, repository: str, globs: str) -> bool:
    """A glob with a slash is matched against `registry/repository`, any other against the registry
    alone.
    """
    name = registry.lower()
    return any(
        fnmatchcase(f"{name}/{repository}" if "/" in glob else name, glob)
        for glob in map(str.strip, globs.lower().split(","))
    )
