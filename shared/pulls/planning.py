"""The coordinator's step: resolve the reference, reserve space, decide which layers to fetch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from shared.catalog.admission import pauses, space, waiting_pulls
from shared.catalog.content import documents, image_rows, stored_blobs
from shared.catalog.database.catalog import Connection, written_from_documents
from shared.catalog.layers import messages, pull_layers
from shared.catalog.model.pull_values import PlannedLayer, Pull
from shared.catalog.pulls import lifecycle
from shared.catalog.pulls.start import StartedPull
from shared.errors import InvalidManifest
from shared.oci.digest import Digest
from shared.oci.index import Index
from shared.oci.manifest import layers_with_diff_ids
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.pulls import fast_path
from shared.pulls.context import Context
from shared.pulls.outbox import Outbox
from shared.pulls.resolving import Resolution, read_resolution, resolve
from shared.pulls.steps.outcomes import PAUSED_SECONDS, SPACE_SECONDS
from shared.pulls.steps.pull_lease import HeldLease, hold_lease, start_resolving
from shared.registry.client import Document
from shared.volume.small_blobs import SmallBlobWriter


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do for a pull.

    `missing`: the distinct layers that need a message of this pull, in manifest order. `followed`:
    how many other missing layers are fetched under messages or leases of other pulls.
    """

    pull_id: str
    reference: str
    generation: int
    missing: Sequence[Digest]
    followed: int = 0


def plan_pull(context: Context, pull_id: str, outbox: Outbox) -> Plan | None:
    """Resolve a recorded pull and write its plan; complete it at once if its image is unchanged.

    Returns None if no chord is to be sent: the pull has ended, waits for space or is being
    fetched already, or another process holds its lease. Raises TryAgain, or the error after failing
    the pull with it.
    """
    began_at = time.monotonic()
    with start_resolving(context, pull_id, outbox) as begun:
        if begun is not None:
            started, held = begun
            return _plan_started(context, started, held, began_at, outbox)
        _continue_or_pause(context, pull_id, outbox)
    return None


def _plan_started(
    context: Context, started: StartedPull, held: HeldLease, began_at: float, outbox: Outbox
) -> Plan | None:
    pull = started.pull
    if pull.manifest_digest is not None:
        # Planned before, but without space to fetch it: keep the manifest of that plan.
        return _check_and_store(context, pull, read_resolution(context, pull), held)
    seen = fast_path.find_unchanged(context, pull)
    if seen.image is not None:
        completed = fast_path.complete(context, started, seen.image, held, began_at)
        if completed is not None:
            outbox.end_with_row(completed)
            return None
    return _check_and_store(context, pull, _resolution(context, started, seen.named), held)


def _check_and_store(
    context: Context, pull: Pull, resolution: Resolution, held: HeldLease
) -> Plan | None:
    # Raises InvalidManifest if layers and diff_ids differ in number, before anything is downloaded.
    layers_with_diff_ids(resolution.manifest, resolution.config)
    held.beat()
    _store_documents(context, resolution)
    held.beat()
    return _write_under_lock(context, pull, resolution)


def _continue_or_pause(context: Context, pull_id: str, outbox: Outbox) -> None:
    """Handle a pull that `start_resolving` did not start: pause it, or continue a planned one.

    A pull that has ended, or whose lease another process holds, is left alone.
    """
    with hold_lease(context, pull_id, outbox) as held:
        pull = held.pull if held else None
        if pull is None or pull.has_ended:
            return
        with context.catalog.begin() as tx:
            paused = pauses.of_pull(tx, pull_id)
            if paused is not None:
                lifecycle.wait(tx, pull_id, "paused", PAUSED_SECONDS, paused.sentence)
            elif pull.state in {"fetching", "linking"}:
                _go_on(tx, pull, context.settings.lease_seconds, outbox)


def _go_on(tx: Connection, pull: Pull, lease_seconds: float, outbox: Outbox) -> None:
    """Continue a planned pull whose message came again: its worker died, or its caller sent the
    same id twice. Layers whose messages may be lost are only noted; Redis is asked later, outside
    of this transaction.
    """
    if not pull_layers.count_missing(tx, pull.id):
        outbox.links.append(pull.id)
    else:
        outbox.maybe_lost += messages.doubtful(tx, pull.id, lease_seconds)


def _resolution(context: Context, begun: StartedPull, named: Document | None) -> Resolution:
    pull = begun.pull
    reference, platform = Reference.parse(pull.reference), Platform.parse(str(pull.platform))
    if pull.policy == "if-missing":
        with context.catalog.begin() as tx:
            image = image_rows.current(tx, str(reference), str(platform))
        if image is not None:
            return read_resolution(
                context,
                pull.resolved(image.manifest_digest, image.index_digest, image.resolved_at),
            )
    return resolve(context, reference, platform, begun.now, named)


def _store_documents(context: Context, resolution: Resolution) -> None:
    small = [*resolution.documents, *resolution.embedded_layers]
    with context.catalog.begin() as tx:
        stored = stored_blobs.stored(tx, [digest for digest, _ in small])
    volume = context.volume
    new = [(digest, raw) for digest, raw in small if digest not in stored]
    with SmallBlobWriter(volume, owner=f"document-{uuid4().hex}") as writer:
        for digest, raw in new:
            if volume.adopt(digest) is None:
                writer.put(digest, raw)
        writer.fsync()


def _write_under_lock(context: Context, pull: Pull, resolution: Resolution) -> Plan | None:
    """Write the plan and return it. None if the pull has ended, or has to wait for space."""
    # Asked before the transaction, so that no lock is held if the volume hangs.
    usable_bytes = context.volume.space().free_bytes - context.settings.minimum_free_bytes
    with context.catalog.begin() as tx:
        recorded = lifecycle.lock(tx, pull.id)
        if recorded is None or recorded.has_ended:
            return None
        if recorded.manifest_digest in {None, str(resolution.manifest_digest)}:
            with written_from_documents():
                return _write(tx, recorded, resolution, usable_bytes)
    # Two workers resolved this pull and the tag moved in between: the first plan's manifest stays.
    # This happens at most once, since the second time the manifests agree.
    return _write_under_lock(context, recorded, read_resolution(context, recorded))


def _write(tx: Connection, pull: Pull, resolution: Resolution, usable_bytes: int) -> Plan | None:
    layers = resolution.manifest.distinct_layers
    digests = [layer.digest for layer in layers]
    _save_documents(tx, resolution)
    for digest, raw in resolution.embedded_layers:
        stored_blobs.store_layer(tx, digest, len(raw))
    stored = stored_blobs.expect_blobs(tx, digests)
    for layer in layers:
        if stored.get(layer.digest, layer.size) != layer.size:
            raise InvalidManifest(
                f"The manifest of {pull.reference} promises {layer.size} bytes for "
                f"{layer.digest}, which has {stored[layer.digest]}."
            )
    lifecycle.record_plan(
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
    missing = [digest for digest in digests if digest not in stored]
    if missing and not _reserve(tx, pull, usable_bytes):
        return None
    leaders = messages.send_or_follow(tx, pull.id, missing) if missing else {}
    own = [digest for digest in missing if leaders[digest] is None]
    followed = len(missing) - len(own)
    # Where this pull only follows others: one of them, to be shown.
    shown = leaders[missing[0]] if missing and not own else None
    generation = lifecycle.start_fetching(tx, pull.id, shown)
    if generation is None:
        return None
    return Plan(pull.id, pull.reference, generation, own, followed)


def _reserve(tx: Connection, pull: Pull, usable_bytes: int) -> bool:
    """Whether the volume has room for this pull and for everything under way.

    If not, the pull is made to wait for space.
    """
    space.lock(tx)
    needed_bytes = space.reserved_bytes(tx, pull.id)
    if needed_bytes <= usable_bytes:
        if pull.manifest_digest is not None:
            # It was planned before and has waited for space: others may try now as well.
            waiting_pulls.wake_for_space(tx)
        return True
    detail = (
        f"this pull and all downloads under way need {_bytes(needed_bytes)}, but the volume has "
        f"only {_bytes(max(usable_bytes, 0))} above TOWLINE_MINIMUM_FREE_BYTES: free space on the "
        "volume or enlarge it"
    )
    waiting_pulls.wait_for_space(tx, pull, SPACE_SECONDS, detail)
    return False


def _bytes(count: int) -> str:
    """A number of bytes for people to read, such as `1.5 GB`."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _save_documents(tx: Connection, resolution: Resolution) -> None:
    stored_blobs.store_blobs(tx, {digest: len(raw) for digest, raw in resolution.documents})
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
