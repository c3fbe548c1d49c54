"""The fast path: the reference still names an image that is on the volume, so the pull completes.

The catalog says which image was linked; the registry says what the reference names now. It is asked
by HEAD if it counts GETs of manifests against a limit. If both name the same manifest, nothing is
read, planned or linked.
"""

import time
from dataclasses import dataclass
from datetime import timedelta

from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import known_image
from shared.catalog.pulls.known_image import LinkedImage
from shared.catalog.pulls.start import StartedPull
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.pulls.context import Context
from shared.pulls.receipts import receipt_of_unchanged
from shared.pulls.steps.pull_lease import HeldLease
from shared.registry.client import Document
from shared.volume.layout import layout_manifest


@dataclass(frozen=True, slots=True)
class FastPath:
    """What the catalog and the registry know.

    `image`: the image that the reference still names, complete on the volume. Otherwise `named`:
    what the reference names now, if it was fetched.
    """

    image: LinkedImage | None
    named: Document | None = None


def find_unchanged(context: Context, pull: Pull) -> FastPath:
    """Look for an image that makes the rest of the pull unnecessary.

    Raises what the registry raises.
    """
    reference = Reference.parse(pull.reference)
    with context.catalog.begin() as tx:
        image = known_image.known(tx, pull.reference, str(pull.platform))
    if image is None or not image.is_whole or not _is_laid_out(context, pull, image):
        return FastPath(None)
    if context.unpack is not None and not image.is_proven:
        # Its diff_ids are not verified yet; linking does that.
        return FastPath(None)
    if pull.policy == "if-missing":
        return FastPath(image)
    # Call it even for a digest, which needs no request: it raises if the registry is not allowed.
    peeked = context.registry.peek(reference)
    if image.named in {str(reference.pinned), str(peeked)}:
        return FastPath(image)
    named = context.registry.manifest(reference)
    return FastPath(image) if str(named.digest) == image.named else FastPath(None, named)


def complete(
    context: Context, begun: StartedPull, image: LinkedImage, held: HeldLease, began: float
) -> Pull | None:
    """Complete the pull with this image. None if the image or the pull has changed in between.

    `began`: time.monotonic() at the beginning of the step.
    """
    finished_at = begun.now + timedelta(seconds=time.monotonic() - began)
    receipt = receipt_of_unchanged(begun.pull, image, finished_at)
    # Without a request (`if-missing`) the tag is known no better than before. So the image keeps
    # its `resolved_at`: another pull may have asked since, and its newer answer must win.
    was_asked = begun.pull.policy != "if-missing"
    try:
        with context.catalog.begin() as tx:
            pull = known_image.complete(
                tx,
                begun.pull,
                image,
                receipt=receipt,
                resolved_at=begun.now if was_asked else image.resolved_at,
                finished_at=finished_at,
                fence=held.fence,
            )
            if pull is None:
                # The statement has ended the lease on the steps: roll that back.
                raise _ChangedError
    except _ChangedError:
        return None
    held.is_over = True
    return pull


class _ChangedError(Exception):
    pass


def _is_laid_out(context: Context, pull: Pull, image: LinkedImage) -> bool:
    reference, platform = Reference.parse(pull.reference), Platform.parse(str(pull.platform))
    found = layout_manifest(context.volume, reference, platform)
    return str(found) == image.manifest_digest
