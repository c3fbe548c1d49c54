"""Verify diff_ids, if `TOWLINE_VERIFY_DIFF_IDS` is set.

A layer is decompressed while it is fetched, and the diff_id computed from its bytes is kept on its
row. Linking compares the claims of the config with the rows. A stored layer without a diff_id is
read from the volume and decompressed then.

A wrong claim fails its own pull and nothing else: the layer is what its digest says, and other
manifests may claim the truth about it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.catalog.content import diff_ids
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.pulls import lifecycle
from shared.errors import CatalogUnavailable, InvalidManifest
from shared.oci.digest import Digest
from shared.oci.manifest import Layer
from shared.pulls.context import Context, Unpack
from shared.pulls.steps.outcomes import ShuttingDown, Stopped

if TYPE_CHECKING:
    from shared.volume.diff_ids.verifier import DiffIdVerifier

# Seconds between two checks whether the pull is still open.
_CHECK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DiffIdCheck:
    """The computed diff_id of a layer that is being fetched, and those that its pull claims."""

    digest: Digest
    claimed: Sequence[Digest]
    unpacking: "DiffIdVerifier"

    @classmethod
    def begin(cls, context: Context, pull_id: str, layer: PullLayer) -> "DiffIdCheck | None":
        """Start decompressing a layer. None if diff_ids are not verified, or if the pull claims
        none for the layer, as for an artifact.
        """
        if context.unpack is None:
            return None
        with context.catalog.begin() as tx:
            claimed = diff_ids.claimed(tx, pull_id, layer.digest)
        if not claimed:
            return None
        unpacking = context.unpack(layer.digest, layer.size_bytes, claimed[0].algorithm)
        return cls(layer.digest, claimed, unpacking)

    @property
    def diff_id(self) -> Digest | None:
        """The diff_id as computed from the bytes; None unless all of them are decompressed."""
        return self.unpacking.diff_id

    def finish(self, context: Context, beat: Callable[[], None]) -> None:
        """Decompress the rest of the layer, which is committed by now.

        Whatever stops a download stops this, without an error: the layer is stored all the same,
        and linking will verify it.
        """
        try:
            self.unpacking.finish(context.volume, beat)
        except Stopped:
            return

    def check(self) -> None:
        """Raises InvalidManifest if a claim is wrong."""
        for claimed in self.claimed:
            _check(self.digest, claimed, self.diff_id, self.unpacking.fault)


class _EndedError(Exception):
    """The pull has ended, so its layers need not be verified any more."""


def verify_diff_ids(
    context: Context, pull_id: str, layers: Sequence[Layer], beat: Callable[[], None]
) -> bool:
    """Verify the claims of a pull's layers. Returns whether linking may go on: False if a layer is
    not stored, or if the pull has ended.

    `beat()`: a sign of life. Raises InvalidManifest, VolumeUnavailable, ShuttingDown.
    """
    if context.unpack is None:
        return True
    claims: dict[Digest, dict[Digest, None]] = {}
    for layer in layers:
        if layer.diff_id is not None:
            claims.setdefault(layer.descriptor.digest, {})[layer.diff_id] = None
    with context.catalog.begin() as tx:
        stored = diff_ids.stored(tx, claims)
    if len(stored) < len(claims):
        # A layer that is stored a moment later must not be linked without this check.
        return False
    open_claims = _unproven(claims, stored)
    watch = _Watch(context, pull_id, beat)
    try:
        for digest, claimed in open_claims:
            _prove(context, context.unpack, digest, claimed, stored[digest].size_bytes, watch)
    except _EndedError:
        return False
    return True


def _unproven(
    claims: Mapping[Digest, Mapping[Digest, None]], stored: Mapping[Digest, diff_ids.VerifiedBlob]
) -> list[tuple[Digest, Digest]]:
    """The claims that no row confirms yet. Raises InvalidManifest for one that a row contradicts.

    A row holds one diff_id. A claim in another algorithm has to be computed each time.
    """
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
    context: Context,
    unpack: Unpack,
    digest: Digest,
    claimed: Digest,
    size_bytes: int,
    beat: Callable[[], None],
) -> None:
    """Decompress a stored layer, record its diff_id, and check the claim."""
    unpacking = unpack(digest, size_bytes, claimed.algorithm)
    unpacking.finish(context.volume, beat)
    if unpacking.diff_id is not None:
        with context.catalog.begin() as tx:
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
    """A callback for each piece of a layer: it gives a sign of life and, from time to time, checks
    whether the pull is still open. Raises ShuttingDown, _EndedError.
    """

    context: Context
    pull_id: str
    beat: Callable[[], None]
    next_check: float = field(default=0.0)

    def __call__(self) -> None:
        self.beat()
        now = time.monotonic()
        if now < self.next_check:
            return
        self.next_check = now + _CHECK_SECONDS
        if self.context.renewer.is_shutting_down():
            raise ShuttingDown("This worker is shutting down.")
        # While the database is unavailable, go on: stopping would waste what was read so far.
        with suppress(CatalogUnavailable), self.context.catalog.begin() as tx:
            pull = lifecycle.get(tx, self.pull_id)
            if pull is None or pull.has_ended:
                raise _EndedError
