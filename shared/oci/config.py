"""Image configs: how to run an image, and the diff_ids of its layers.

Lists and objects are kept exactly as in the document; None if a field is missing.
Source: image-spec v1.1, "Image Configuration".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.errors import InvalidDigest, InvalidManifest
from shared.oci.descriptor import text_of
from shared.oci.digest import Digest
from shared.oci.json_document import parse_object
from shared.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """One image config. `created`: in UTC, None if it is missing or not a possible time."""

    created: datetime | None
    os: str | None
    architecture: str | None
    variant: str | None
    os_version: str | None
    env: Any
    cmd: Any
    entrypoint: Any
    working_dir: str | None
    user_name: str | None
    exposed_ports: Any
    volumes: Any
    labels: Any
    stop_signal: str | None
    history: Any
    rootfs_type: str | None
    diff_ids: tuple[Digest, ...]
    document: Mapping[str, Any]

    @property
    def platform(self) -> Platform | None:
        """The platform that the image states, None if it states none."""
        if not self.os or not self.architecture:
            return None
        return Platform.from_document(self.document)

    @classmethod
    def parse(cls, raw: bytes) -> "ImageConfig":
        """Return the config that this JSON holds.

        Raises InvalidManifest, and UnsupportedAlgorithm for the algorithm of a diff_id.
        """
        document = parse_object(raw, "config")
        run = _object(document, "config")
        rootfs = _object(document, "rootfs")
        return cls(
            created=_created(document.get("created")),
            os=text_of(document, "os"),
            architecture=text_of(document, "architecture"),
            variant=text_of(document, "variant"),
            os_version=text_of(document, "os.version"),
            env=run.get("Env"),
            cmd=run.get("Cmd"),
            entrypoint=run.get("Entrypoint"),
            working_dir=text_of(run, "WorkingDir"),
            user_name=text_of(run, "User"),
            exposed_ports=run.get("ExposedPorts"),
            volumes=run.get("Volumes"),
            labels=run.get("Labels"),
            stop_signal=text_of(run, "StopSignal"),
            history=document.get("history"),
            rootfs_type=text_of(rootfs, "type"),
            diff_ids=_diff_ids(rootfs),
            document=document,
        )


def _object(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidManifest(f"{key} in the image's config is not an object.")
    return value


def _diff_ids(rootfs: Mapping[str, Any]) -> tuple[Digest, ...]:
    texts = rootfs.get("diff_ids")
    if texts is None:
        return ()
    if not isinstance(texts, list):
        raise InvalidManifest("diff_ids in the image's config is not a list.")
    try:
        return tuple(Digest.parse(text) for text in texts)
    except InvalidDigest as error:
        raise InvalidManifest(f"A diff_id is malformed: {error.message}") from error


def _created(text: Any) -> datetime | None:
    """An RFC 3339 time in UTC. None for anything else: that is no reason to refuse an image."""
    if not isinstance(text, str):
        return None
    try:
        created = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        # The offset may move the time to year 0 or 10000, which neither datetime nor the database
        # driver supports.
        return created.replace(tzinfo=created.tzinfo or UTC).astimezone(UTC)
    except (OverflowError, ValueError):
        return None
