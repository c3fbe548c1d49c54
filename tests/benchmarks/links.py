"""Whether images are linked as their registry has them: once, complete, in order, on the volume."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.registry import FakeRegistry

# Runs a statement with its values, and returns the rows.
Ask = Callable[..., list[tuple[Any, ...]]]

_IMAGES = """
    SELECT reference, digest FROM images JOIN manifests ON manifests.id = manifest_id
    WHERE reference = ANY(%s)
"""
_HISTORY = "SELECT reference, manifest_digest FROM image_history WHERE reference = ANY(%s)"
_LAYERS = """
    SELECT reference, position, digest FROM image_layers
    WHERE reference = ANY(%s) ORDER BY reference, position
"""


@dataclass(frozen=True)
class _Held:
    """An image as the registry has it."""

    manifest: str
    config: str
    layers: list[str]

    @classmethod
    def by(cls, registry: FakeRegistry, repository: str) -> "_Held":
        for (name, digest), (_, raw) in registry.manifests.items():
            if name == repository and digest.startswith("sha256:"):
                document = json.loads(raw)
                layers = [layer["digest"] for layer in document["layers"]]
                return cls(digest, document["config"]["digest"], layers)
        raise LookupError(repository)

    @property
    def blobs(self) -> list[Path]:
        """The paths of its blobs in the store and in a layout."""
        return [
            Path("blobs", *digest.split(":"))
            for digest in (self.manifest, self.config, *self.layers)
        ]


def ill_linked(
    ask: Ask, volume: Path, registry: FakeRegistry, references: Collection[str]
) -> list[str]:
    """Those of these references (`host/repository:tag`) that are linked wrongly. All must have been
    pulled.
    """
    images, history, layers = (
        _grouped(ask(statement, list(references))) for statement in (_IMAGES, _HISTORY, _LAYERS)
    )

    def sound(reference: str) -> bool:
        name, _, tag = reference.rpartition(":")
        held = _Held.by(registry, name.removeprefix(f"{registry.host}/"))
        return (
            images[reference] == history[reference] == [(held.manifest,)]
            and layers[reference] == list(enumerate(held.layers))
            and _laid_out(volume, Path(name.replace(":", "_", 1), "_tags", tag), held)
        )

    return [reference for reference in references if not sound(reference)]


def _grouped(rows: Sequence[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    groups: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for reference, *more in rows:
        groups[reference].append(tuple(more))
    return groups


def _laid_out(volume: Path, name: Path, held: _Held) -> bool:
    """Whether the image layout names only this manifest and holds the store's own files."""
    layout = volume / "images" / name / "linux-amd64"
    try:
        listed = json.loads((layout / "index.json").read_text())["manifests"]
        return [entry["digest"] for entry in listed] == [held.manifest] and all(
            (layout / path).samefile(volume / path) for path in held.blobs
        )
    except OSError:
        return False
