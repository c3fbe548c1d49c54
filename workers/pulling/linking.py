"""The last step: every layer is stored, so the image becomes one.

Transaction 1: the manifest's layers by position. Then the layout directory. Transaction 2: image,
history, receipt, complete. Then the layout is compared with the image's row (laying_out.py).
"""

from datetime import datetime
from typing import Any

from shared.catalog import ends, images, pull_layers, pulls
from shared.catalog.database import Connection
from shared.catalog.images import NewImage
from shared.catalog.pull_layers import PullLayer
from shared.catalog.pull_values import Pull
from shared.errors import InvalidArgument
from shared.oci.digest import Digest
from shared.oci.manifest import Layer, pair_layers
from shared.oci.reference import Reference
from workers.pulling.laying_out import lay_out, settle_layout
from workers.pulling.outbox import Outbox
from workers.pulling.proving import prove
from workers.pulling.resolving import Resolution, recall
from workers.pulling.stepping import step
from workers.pulling.trying import attempt
from workers.resources import Resources

Receipt = dict[str, Any]


def link_image(resources: Resources, pull_id: str, outbox: Outbox) -> Receipt | None:
    """Complete a pull whose layers are all stored; its receipt, None while one is missing or while
    another worker links it. Of one that has ended, only the layout is put right.

    Raises TryAgain, or the error after the pull was failed with it.
    """
    with attempt(resources, pull_id, outbox), step(resources, pull_id) as held:
        pull = held.pull if held else _standing(resources, pull_id)
        if pull is None:
            raise InvalidArgument(f"There is no pull {pull_id}.")
        if held is not None and pull.final and pull.layout_unsettled:
            settle_layout(resources, pull)
        if pull.final or pull.manifest_digest is None or held is None:
            return pull.receipt
        resolution = recall(resources, pull)
        layers = pair_layers(resolution.manifest, resolution.config)
        if not prove(resources, pull_id, layers, held.beat):
            return None
        if not _link_layers(resources, pull, layers):
            return None
        lay_out(resources, pull, resolution)
        receipt = _complete(resources, pull, resolution, layers)
        settle_layout(resources, pull)
        outbox.end([pull_id])
        return receipt


def _standing(resources: Resources, pull_id: str) -> Pull | None:
    with resources.catalog.begin() as tx:
        return pulls.get(tx, pull_id)


def _link_layers(resources: Resources, pull: Pull, layers: tuple[Layer, ...]) -> bool:
    """Whether every layer is stored; then the manifest's links are, too."""
    with resources.catalog.begin() as tx:
        pulls.lock(tx, pull.id)
        if not pull_layers.are_whole(tx, pull.id):
            return False
        images.link_layers(tx, Digest.parse(str(pull.manifest_digest)), layers)
        pulls.linking(tx, pull.id)
    return True


def _complete(
    resources: Resources, pull: Pull, resolution: Resolution, layers: tuple[Layer, ...]
) -> Receipt | None:
    with resources.catalog.begin() as tx:
        current = pulls.lock(tx, pull.id)
        if current is None or current.final:
            return current.receipt if current else None
        images.link(tx, _new_image(current, resolution))
        images.use(tx, pull.reference, str(pull.platform))
        finished_at = pulls.clock(tx)
        receipt = _receipt(tx, current, layers, finished_at)
        ends.complete(tx, pull.id, receipt, finished_at)
    return receipt


def _new_image(pull: Pull, resolution: Resolution) -> NewImage:
    index = resolution.index
    return NewImage(
        reference=pull.reference,
        platform=str(pull.platform),
        manifest_digest=str(resolution.manifest_digest),
        index_digest=str(index.digest) if index else None,
        size_bytes=resolution.manifest.total_size_bytes,
        resolved_at=resolution.resolved_at,
        is_tag=Reference.parse(pull.reference).pinned is None,
    )


def _receipt(
    tx: Connection, pull: Pull, layers: tuple[Layer, ...], finished_at: datetime
) -> Receipt:
    registry = Reference.parse(pull.reference).registry
    fetched = {layer.digest: layer for layer in pull_layers.of_pull(tx, pull.id, registry)}
    return {
        "pull_id": pull.id,
        "reference": pull.reference,
        "platform": pull.platform,
        "manifest": pull.manifest_digest,
        "index": pull.index_digest,
        "config": pull.config_digest,
        "layers": _receipt_layers(layers, fetched),
        "bytes_total": pull.bytes_total,
        "bytes_fetched": sum(layer.bytes_fetched for layer in fetched.values()),
        "started_at": pull.started_at.isoformat() if pull.started_at else None,
        "finished_at": finished_at.isoformat(),
    }


def _receipt_layers(
    layers: tuple[Layer, ...], fetched: dict[Digest, PullLayer]
) -> list[dict[str, Any]]:
    """One entry a position; a repeated digest reports its bytes at its first position only."""
    entries = []
    seen: set[Digest] = set()
    for layer in layers:
        digest = layer.descriptor.digest
        row = fetched[digest]
        first = digest not in seen
        seen.add(digest)
        entries.append(
            {
                "position": layer.position,
                "digest": str(digest),
                "diff_id": str(layer.diff_id) if layer.diff_id else None,
                "size": layer.descriptor.size,
                "source": row.source or "present",
                "bytes_fetched": row.bytes_fetched if first else 0,
                "attempts": row.attempts,
            }
        )
    return entries
