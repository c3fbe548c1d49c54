"""The proof of diff_ids, where `TOWLINE_VERIFY_DIFF_IDS` asks for it.

A layer is unpacked while it is fetched, and what comes out stands on its row from then on. Linking
asks the rows; a layer that nobody has verified, because it was there before, is read from the
volume once. A claim that is wrong ends its own pull and nothing else: the bytes are what they are.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.catalog import diff_ids, pulls
from shared.catalog.pull_layers import PullLayer
from shared.errors import CatalogUnavailable, InvalidManifest
from shared.oci.digest import Digest
from shared.oci.manifest import Layer
from workers.pulling.stops import LettingGo, Stopped
from workers.resources import Resources, Unpack

if TYPE_CHECKING:
    from shared.volume.unpacking import Unpacking

_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What comes of a layer that is being fetched, beside what its pull claims of it."""

    digest: Digest
    claimed: Sequence[Digest]
    unpacking: "Unpacking"

    @classmethod
    def begin(cls, resources: Resources, pull_id: str, layer: PullLayer) -> "Proof | None":
        """None where nothing is to be proved, or nothing is claimed, as by an artifact."""
        if resources.unpack is None:
            return None
        with resources.catalog.begin() as tx:
            claimed = diff_ids.claimed(tx, pull_id, layer.digest)
        if not claimed:
            return None
        unpacking = resources.unpack(layer.digest, layer.size_bytes, claimed[0].algorithm)
        return cls(layer.digest, claimed, unpacking)

    @property
    def diff_id(self) -> Digest | None:
        """As verified."""
        return self.unpacking.diff_id

    def finish(self, resources: Resources, beat: Callable[[], None]) -> None:
        """The layer is committed: unpack what is left of it.

        Whatever ends a download ends this, and the layer is stored all the same: who links it will
        verify it.
        """
        try:
            self.unpacking.finish(resources.volume, beat)
        except Stopped:
            return

    def check(self) -> None:
        """Raises InvalidManifest where the claim is wrong."""
        for claimed in self.claimed:
            _check(self.digest, claimed, self.diff_id, self.unpacking.fault)


class _EndedError(Exception):
    """The pull has ended meanwhile."""


def prove(
    resources: Resources, pull_id: str, layers: Sequence[Layer], beat: Callable[[], None]
) -> bool:
    """Whether to go on: every layer is what the config claims. False while one is not stored, and
    for a pull that has ended meanwhile.

    `beat()` is a sign of life. Raises InvalidManifest, VolumeUnavailable, LettingGo.
    """
    if resources.unpack is None:
        return True
    claims: dict[Digest, dict[Digest, None]] = {}
    for layer in layers:
        if layer.diff_id is not None:
            claims.setdefault(layer.descriptor.digest, {})[layer.diff_id] = None
    with resources.catalog.begin() as tx:
        stored = diff_ids.stored(tx, claims)
    if len(stored) < len(claims):
        # One that lands a moment later must not be linked unseen.
        return False
    open_claims = _unproven(claims, stored)
    watch = _Watch(resources, pull_id, beat)
    try:
        for digest, claimed in open_claims:
            _prove(resources, resources.unpack, digest, claimed, stored[digest].size_bytes, watch)
    except _EndedError:
        return False
    return True


def _unproven(
    claims: Mapping[Digest, Mapping[Digest, None]], stored: Mapping[Digest, diff_ids.StoredLayer]
) -> list[tuple[Digest, Digest]]:
    """What the rows say nothing about. Raises InvalidManifest for what they contradict."""
    left = []
    for digest in stored:
        for claimed in claims[digest]:
            known = stored[digest].diff_id
            if known is None or known.algorithm != claimed.algorithm:
                left.append((digest, claimed))
            else:
                _check(digest, claimed, known, None)
    return left


def _prove(
    resources: Resources,
    unpack: Unpack,
    digest: Digest,
    claimed: Digest,
    size_bytes: int,
    beat: Callable[[], None],
) -> None:
    """Read a layer from the volume, and remember what it is."""
    unpacking = unpack(digest, size_bytes, claimed.algorithm)
    unpacking.finish(resources.volume, beat)
    if unpacking.diff_id is not None:
        with resources.catalog.begin() as tx:
            diff_ids.record(tx, digest, unpacking.diff_id)
    _check(digest, claimed, unpacking.diff_id, unpacking.fault)


def _check(digest: Digest, claimed: Digest, actual: Digest | None, fault: str | None) -> None:
    if fault is not None:
        raise InvalidManifest(
            f"The image's config claims the diff_id {claimed} for the layer {digest}, which cannot "
            f"be decompressed: {fault}."
        )
    if actual is not None and actual.algorithm == claimed.algorithm and actual != claimed:
        raise InvalidManifest(
            f"The image's config claims the diff_id {claimed} for the layer {digest}, which "
            f"uncompresses to {actual}."
        )


@dataclass(slots=True)
class _Watch:
    """Called for every piece of a layer: whether anybody still wants it to go on."""

    resources: Resources
    pull_id: str
    beat: Callable[[], None]
    next_look: float = field(default=0.0)

    def __call__(self) -> None:
        self.beat()
        now = time.monotonic()
        if now < self.next_look:
            return
        self.next_look = now + _LOOK_SECONDS
        if self.resources.keeper.is_letting_go:
            raise LettingGo("This worker is shutting down.")
        # While the database is away, what was read so far is not lost.
        with suppress(CatalogUnavailable), self.resources.catalog.begin() as tx:
            pull = pulls.get(tx, self.pull_id)
            if pull is None or pull.final:
                raise _EndedError
