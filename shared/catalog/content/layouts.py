"""Whether the layout directory of an image agrees with the image's row.

Directory and row cannot change in one transaction, and several pulls may write the same directory.
So a pull is marked `layout_unsettled` before it writes a layout. Afterwards the writer compares
what it wrote with the row; one statement compares and clears the mark, so no link can come in
between. If they differ, the mark stays, and the writer writes again. The last writer thus leaves
both equal.

A mark on a pull that has ended means that its worker died in between. The reconciler sends such a
pull to `link_image` once more.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Update, bindparam, func, or_, select, text, update

from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import step_leases
from shared.catalog.fleet.due_work import BATCH
from shared.catalog.model.content_tables import images, manifests
from shared.catalog.model.pull_tables import FINAL_STATES, pulls
from shared.oci.digest import Digest
from shared.oci.reference import Reference

_MANIFEST = select(manifests.c.digest).join(images, images.c.manifest_id == manifests.c.id)

# The manifest that the reference of the updated pull names now.
_NAMED = (
    _MANIFEST.where(images.c.reference == pulls.c.reference, images.c.platform == pulls.c.platform)
    .correlate(pulls)
    .scalar_subquery()
)

_BEFORE_DIGEST = func.split_part(images.c.reference, "@", 1)

# `a:1@sha256:…` and `a:2@sha256:…` are two images but share the layout directory of the digest,
# which must stay as long as either of them is there.
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
    """Return the manifest that the layout of this pull's image should name; None for no layout.

    `laid_out` is the manifest that the layout names, as the caller read it. If both are the same,
    the pull's mark is cleared; otherwise it is set.
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
        # Text, so that the condition is the one of the partial index.
        text("layout_unsettled"),
        pulls.c.state.in_(FINAL_STATES),
        ~step_leases.is_taken(pulls.c.id),
    )
    .order_by(pulls.c.id)
    .limit(BATCH)
)


def unsettled(tx: Connection) -> Sequence[str]:
    """Return a batch of ended pulls whose layout may differ from the image's row.

    Pulls with a live step lease are left out: a worker is about to compare them.
    """
    return tx.execute(_UNSETTLED).scalars().all()
