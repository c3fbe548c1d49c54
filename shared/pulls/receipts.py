"""The receipt of a pull: what the reference named, its layers, and how each was obtained."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls.known_image import LinkedImage
from shared.oci.digest import Digest
from shared.oci.manifest import Layer

# The JSON that callers get, also kept in `pulls.receipt`. No field is ever renamed or removed.
Receipt = dict[str, Any]


def receipt_of(
    pull: Pull,
    layers: Sequence[Layer],
    fetched: Mapping[Digest, PullLayer],
    finished_at: datetime,
) -> Receipt:
    """The receipt of a planned pull whose layers are all stored.

    `layers`: by position, as in the manifest. `fetched`: the pull's own layer rows, by digest.
    """
    return {
        **_image(pull, pull.manifest_digest, pull.index_digest, pull.config_digest),
        "layers": _layers(layers, fetched),
        "bytes_total": pull.bytes_total,
        "bytes_fetched": sum(layer.bytes_fetched for layer in fetched.values()),
        **_times(pull, finished_at),
    }


def receipt_of_unchanged(pull: Pull, image: LinkedImage, finished_at: datetime) -> Receipt:
    """The receipt of a pull whose image was on the volume already: nothing was fetched."""
    untouched = {"source": "present", "bytes_fetched": 0, "attempts": 0}
    return {
        **_image(pull, image.manifest_digest, image.index_digest, image.config_digest),
        "layers": [{**layer, **untouched} for layer in image.layers],
        "bytes_total": image.bytes_total,
        "bytes_fetched": 0,
        **_times(pull, finished_at),
    }


def _image(pull: Pull, manifest: str | None, index: str | None, config: str | None) -> Receipt:
    return {
        "pull_id": pull.id,
        "reference": pull.reference,
        "platform": pull.platform,
        "manifest": manifest,
        "index": index,
        "config": config,
    }


def _times(pull: Pull, finished_at: datetime) -> Receipt:
    return {
        "started_at": pull.started_at.isoformat() if pull.started_at else None,
        "finished_at": finished_at.isoformat(),
    }


def _layers(layers: Sequence[Layer], fetched: Mapping[Digest, PullLayer]) -> list[dict[str, Any]]:
    """One entry per position. A repeated digest reports its bytes at its first position only."""
    entries = []
    seen: set[Digest] = set()
    for layer in layers:
        digest = layer.descriptor.digest
        row = fetched[digest]
        is_first = digest not in seen
        seen.add(digest)
        entries.append(
            {
                "position": layer.position,
                "digest": str(digest),
                "diff_id": str(layer.diff_id) if layer.diff_id else None,
                "size": layer.descriptor.size,
                "source": row.source or "present",
                "bytes_fetched": row.bytes_fetched if is_first else 0,
                "attempts": row.attempts,
            }
        )
    return entries
