"""Whether the layout directory of an image is what the image's row says.

A pull is marked `layout_unsettled` before it writes a layout. The writer compares it with the row
afterwards and takes the mark away in the same statement. So the last writer leaves both equal, and
a mark on a pull that has ended tells of a worker that died in between.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Update, bindparam, func, or_, select, text, update

from shared.catalog import step_leases
from shared.catalog.database import Connection
from shared.catalog.pull_tables import FINAL_STATES, pulls
from shared.catalog.recovery import BATCH
from shared.catalog.tables import images, manifests
from shared.oci.digest import Digest
from shared.oci.reference import Reference

_MANIFEST = select(manifests.c.digest).join(images, images.c.manifest_id == manifests.c.id)

_NAMED = (
    _MANIFEST.where(images.c.reference == pulls.c.reference, images.c.platform == pulls.c.platform)
    .correlate(pulls)
    .scalar_subquery()
)

_BEFORE_DIGEST = func.split_part(images.c.reference, "@", 1)

# `a:1@sha256:…` and `a:2@sha256:…` are two images in one directory, which is the digest's.
_NAMED_WITH_ANY_TAG = (
    _MANIFEST.where(
        func.split_part(images.c.reference, "@", 2) == bindparam("digest"),
        or_(
            bindparam("name") == _BEFORE_DIGEST,
            func.starts_with(_BEFORE_DIGEST, bindparam("name_and_colon")),
        ),
        images.c.platform == pulls.c.platform,
    )
    .limit(1)
    .correlate(pulls)
    .scalar_subquery()
)


def _settling(named: ColumnElement[str | None]) -> Update:
    laid_out = bindparam("laid_out", type_=manifests.c.digest.type)
    return (
        update(pulls)
        .where(pulls.c.id == bindparam("pull_id"))
        .values(layout_unsettled=named.is_distinct_from(laid_out))
        .returning(named)
    )


_SETTLE_TAG = _settling(_NAMED)
_SETTLE_DIGEST = _settling(func.coalesce(_NAMED, _NAMED_WITH_ANY_TAG))


def settle(
    tx: Connection, pull_id: str, reference: Reference, laid_out: Digest | None
) -> Digest | None:
    """The manifest that the layout of this pull's image should name, None for no layout at all.

    `laid_out`: the one it names, read before. Where both are the same, the pull's mark goes.
    """
    parameters = {"pull_id": pull_id, "laid_out": str(laid_out) if laid_out else None}
    if reference.pinned is None:
        named = tx.execute(_SETTLE_TAG, parameters).scalar()
    else:
        name = f"{reference.registry}/{reference.repository}"
        of_digest = {
            "digest": str(reference.pinned),
            "name": name,
            "name_and_colon": f"{name}:",
        }
        named = tx.execute(_SETTLE_DIGEST, parameters | of_digest).scalar()
    return Digest.parse(named) if named else None


_UNSETTLED = (
    select(pulls.c.id)
    .where(
        # A literal, as the partial index has it.
        text("layout_unsettled"),
        pulls.c.state.in_(FINAL_STATES),
        ~step_leases.is_taken(pulls.c.id),
    )
    .order_by(pulls.c.id)
    .limit(BATCH)
)


def unsettled(tx: Connection) -> Sequence[str]:
    """Pulls that have ended, and no worker compares their layout with the image's row."""
    return tx.execute(_UNSETTLED).scalars().all()
