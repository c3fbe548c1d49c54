"""The coordinator's step: record the pull, resolve it, and say which layers are left to fetch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from shared.catalog import blobs, documents, images, pulls
from shared.catalog.database import Connection
from shared.catalog.pull_values import NewPull, PlannedLayer, Pull
from shared.errors import InvalidArgument, InvalidManifest, PermanentError
from shared.oci.digest import Digest
from shared.oci.index import Index
from shared.oci.manifest import pair_layers
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.volume.ingest import put
from workers.contract import PULL_ID_CHARACTERS
from workers.pulling.attempts import attempt, fail
from workers.pulling.request import PullRequest, new_pull, reference_text
from workers.pulling.resolving import Resolution, recall, resolve
from workers.resources import Resources


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left of a pull: the distinct layers that are not stored, in manifest order."""

    pull_id: str
    reference: str
    generation: int
    missing: Sequence[Digest]


def plan_pull(
    resources: Resources, pull_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Plan | None:
    """Bring a pull as far as its plan. None for one that has ended.

    Raises TryAgain, or the error after the pull was failed with it.
    """
    with attempt(resources, pull_id):
        if _record(resources, pull_id, args, kwargs).final:
            return None
        with resources.catalog.begin() as tx:
            pull = pulls.start(tx, pull_id, str(resources.default_platform))
            now = pulls.clock(tx)
        if pull is None:
            return None
        resolution = _resolution(resources, pull, now)
        # The count is an error before any download.
        pair_layers(resolution.manifest, resolution.config)
        _store_documents(resources, resolution)
        return _plan(resources, pull, resolution)


def _record(
    resources: Resources, pull_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Pull:
    """The row of this pull; the first arguments win. One that cannot be read fails with a row."""
    if len(pull_id) > PULL_ID_CHARACTERS:
        raise InvalidArgument(f"A pull id has at most {PULL_ID_CHARACTERS} characters.")
    with resources.catalog.begin() as tx:
        pull = pulls.get(tx, pull_id)
    if pull is not None:
        return pull
    try:
        new = new_pull(pull_id, PullRequest.parse(args, kwargs))
    except PermanentError as error:
        with resources.catalog.begin() as tx:
            pulls.record(tx, NewPull(id=pull_id, reference=reference_text(kwargs), platform=None))
        fail(resources, pull_id, error)
        raise
    with resources.catalog.begin() as tx:
        return pulls.record(tx, new)


def _resolution(resources: Resources, pull: Pull, now: datetime) -> Resolution:
    if pull.manifest_digest is not None:
        # Planned before, by a worker that died: go on with the same manifest.
        return recall(resources, pull)
    reference, platform = Reference.parse(pull.reference), Platform.parse(str(pull.platform))
    if pull.policy == "if-missing":
        with resources.catalog.begin() as tx:
            image = images.current(tx, str(reference), str(platform))
        if image is not None:
            return recall(
                resources,
                pull.resolved(image.manifest_digest, image.index_digest, image.resolved_at),
            )
    return resolve(resources, reference, platform, now)


def _store_documents(resources: Resources, resolution: Resolution) -> None:
    digests = [digest for digest, _ in resolution.documents]
    with resources.catalog.begin() as tx:
        stored = blobs.stored(tx, digests)
    for digest, raw in resolution.documents:
        if digest not in stored and resources.volume.adopt(digest) is None:
            put(resources.volume, digest, raw, owner=f"document-{uuid4().hex}")


def _plan(resources: Resources, pull: Pull, resolution: Resolution) -> Plan | None:
    """The plan as it is written; None for a pull that has ended meanwhile."""
    with resources.catalog.begin() as tx:
        standing = pulls.lock(tx, pull.id)
        if standing is None or standing.final:
            return None
        if standing.manifest_digest in {None, str(resolution.manifest_digest)}:
            return _write(tx, standing, resolution)
    # The tag moved while two workers resolved one pull: the manifest that was planned first stays.
    return _plan(resources, standing, recall(resources, standing))


def _write(tx: Connection, pull: Pull, resolution: Resolution) -> Plan | None:
    layers = resolution.manifest.distinct_layers
    digests = [layer.digest for layer in layers]
    _save_documents(tx, resolution)
    blobs.expect_blobs(tx, digests)
    stored = blobs.stored(tx, digests)
    for layer in layers:
        if stored.get(layer.digest, layer.size) != layer.size:
            raise InvalidManifest(
                f"The manifest of {pull.reference} promises {layer.size} bytes for "
                f"{layer.digest}, which has {stored[layer.digest]}."
            )
    generation = pulls.plan(
        tx,
        pull.id,
        manifest_digest=str(resolution.manifest_digest),
        index_digest=str(resolution.index.digest) if resolution.index else None,
        config_digest=str(resolution.manifest.config.digest),
        resolved_at=resolution.resolved_at,
        layers=[
            PlannedLayer(layer.digest, layer.size, layer.media_type, layer.urls) for layer in layers
        ],
    )
    if generation is None:
        return None
    missing = [digest for digest in digests if digest not in stored]
    return Plan(pull.id, pull.reference, generation, missing)


def _save_documents(tx: Connection, resolution: Resolution) -> None:
    blobs.store_blobs(tx, {digest: len(raw) for digest, raw in resolution.documents})
    index = resolution.index
    if index is not None and isinstance(index.document, Index):
        documents.save_index(tx, index.digest, len(index.raw), index.document)
    config_id = documents.save_config(tx, resolution.manifest.config, resolution.config)
    documents.save_manifest(
        tx,
        resolution.manifest_digest,
        len(resolution.manifest_raw),
        resolution.manifest,
        config_id,
    )
