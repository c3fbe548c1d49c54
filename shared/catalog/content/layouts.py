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

from sqlalchemy import ColumnElement, Text, Update, bindparam, func, or_, select, update

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant
from shared.catalog.database.paging import first_page
from shared.catalog.model.content_tables import Images, Manifests
from shared.catalog.model.predicates import has_step, is_final
from shared.catalog.model.pull_tables import Pulls
from shared.oci.digest import Digest
from shared.oci.reference import Reference

_MANIFEST = (
    select(Manifests.digest)
    .join(Images, Images.manifest_id == Manifests.id)
    .where(Images.platform == Pulls.platform)
    .correlate(Pulls)
)

# The manifest that the reference of the updated pull names now.
_NAMED = _MANIFEST.where(Images.reference == Pulls.reference).scalar_subquery()

_before_digest = func.split_part(Images.reference, constant("@"), constant(1))
_pinned = func.split_part(Images.reference, constant("@"), constant(2))

# `a:1@sha256:…` and `a:2@sha256:…` are two images but share the layout directory of the digest,
# which must stay as long as either of them is there.
_NAMED_WITH_ANY_TAG = (
    _MANIFEST.where(
        _pinned == bindparam("digest"),
        or_(
            _before_digest == bindparam("name"),
            func.starts_with(_before_digest, bindparam("name_and_colon")),
        ),
    )
    .limit(constant(1))
    .scalar_subquery()
)


def _settling(named: ColumnElement[str | None]) -> Update:
    laid_out = bindparam("laid_out", type_=Text())
    return (
        update(Pulls)
        .where(Pulls.id == bindparam("pull_id"))
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


_UNSETTLED = first_page(
    select(Pulls.id)
    .where(Pulls.layout_unsettled, is_final(Pulls), ~has_step(Pulls))
    .order_by(Pulls.id)
)


def unsettled(tx: Connection) -> Sequence[str]:
    """Return a page of ended pulls whose layout may differ from the image's row.

    Pulls with a live step lease are left out: a worker is about to compare them.
    """
    return tx.execute(_UNSETTLED).scalars().all()
