"""One transaction for a whole test."""

from collections.abc import Iterator

import pytest

from shared.catalog.database.catalog import Catalog, Connection


@pytest.fixture
def tx(catalog: Catalog) -> Iterator[Connection]:
    """A transaction, committed at the end."""
    with catalog.begin() as tx:
        yield tx
