"""The last step: every layer is stored, so the image is linked.

1. A transaction writes the manifest's layers by position.
2. The layout directory is written.
3. A transaction writes image, history and receipt, and completes the pull.
4. The layout is compared with the image's row (`laying_out.py`).
"""

from shared.catalog.content import image_links
from shared.catalog.content.image_links import NewImage
from shared.catalog.layers import pull_layers
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import finish, lifecycle
from shared.errors import InvalidArgument, PoisonLayer, TowlineError
from shared.oci.digest import Digest
from shared.oci.manifest import Layer, layers_with_diff_ids
from shared.oci.reference import Reference
from shared.pulls.context import Context
from shared.pulls.layers.diff_id_check import verify_diff_ids
from shared.pulls.laying_out import lay_out, settle_layout
from shared.pulls.outbox import Outbox
from shared.pulls.receipts import Receipt, receipt_of
from shared.pulls.resolving import Resolution, read_resolution
from shared.pulls.same_image_pulls import complete_duplicates, link_next
from shared.pulls.steps.pull_lease import hold_lease


def link_image(context: Context, pull_id: str, outbox: Outbox) -> Receipt | None:
    """Complete a pull whose layers are all stored, and return its receipt.

    None while a layer is missing, or while another worker links the pull. For a pull that has ended
    already, only its layout is corrected. Raises TryAgain, or the error after failing the pull with
    it.
    """
    try:
        receipt = _link(context, pull_id, outbox)
    except PoisonLayer:
        # This link has killed workers: do not send the next pull of the image at once.
        raise
    except TowlineError:
        link_next(context, pull_id, outbox)
        raise
    if receipt is None:
        link_next(context, pull_id, outbox)
    return receipt


def _link(context: Context, pull_id: str, outbox: Outbox) -> Receipt | None:
    with hold_lease(context, pull_id, outbox) as held:
        pull = held.pull if held else _load(context, pull_id)
        if pull is None:
            raise InvalidArgument(f"There is no pull {pull_id}.")
        if held is not None and pull.has_ended and pull.layout_unsettled:
            settle_layout(context, pull)
        if pull.has_ended or pull.manifest_digest is None or held is None:
            return pull.receipt
        resolution = read_resolution(context, pull)
        layers = layers_with_diff_ids(resolution.manifest, resolution.config)
        if not verify_diff_ids(context, pull_id, layers, held.beat):
            return None
        held.beat()
        if not _link_layers(context, pull, layers):
            return None
        lay_out(context, pull, resolution)
        held.beat()
        receipt = _complete(context, pull, resolution, layers)
        settle_layout(context, pull)
        outbox.end([pull_id])
        complete_duplicates(context, pull, layers, outbox)
        return receipt
    return None


def _load(context: Context, pull_id: str) -> Pull | None:
    with context.catalog.begin() as tx:
        return lifecycle.get(tx, pull_id)


def _link_layers(context: Context, pull: Pull, layers: tuple[Layer, ...]) -> bool:
    """Write the manifest's layers by position. False, and nothing is written, if one is missing."""
    with context.catalog.begin() as tx:
        lifecycle.lock(tx, pull.id)
        if not pull_layers.are_whole(tx, pull.id):
            return False
        image_links.link_layers(tx, Digest.parse(str(pull.manifest_digest)), layers)
        lifecycle.start_linking(tx, pull.id)
    return True


def _complete(
    context: Context, pull: Pull, resolution: Resolution, layers: tuple[Layer, ...]
) -> Receipt | None:
    with context.catalog.begin() as tx:
        current = lifecycle.lock(tx, pull.id)
        if current is None or current.has_ended:
            return current.receipt if current else None
        image_links.link(tx, _new_image(current, resolution))
        finished_at = lifecycle.clock(tx)
        registry = Reference.parse(pull.reference).registry
        fetched = pull_layers.of_pulls(tx, [pull.id], registry)[pull.id]
        receipt = receipt_of(current, layers, fetched, finished_at)
        finish.complete(tx, pull.id, receipt, finished_at)
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
