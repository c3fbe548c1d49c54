"""An id from outside may be any string; impossible ones are refused before PostgreSQL sees them."""

from collections.abc import Callable

import pytest

from shared.catalog.database.catalog import Catalog
from shared.errors import InvalidArgument
from shared.pulls.cancelling import cancel_pull
from tests.builders.pulls import record
from workers.cli.pulls.retry import _named
from workers.cli.watching import snapshot
from workers.doctor.pull_snapshot import read_snapshot

pytestmark = pytest.mark.integration

NO_IDS = ["no such pull", "", "x" * 156, "nul\0", "\udcff\udcfe", "\ud800"]


@pytest.mark.parametrize("ask", [snapshot, read_snapshot])
@pytest.mark.parametrize("pull_id", NO_IDS, ids=ascii)
def test_an_impossible_id_is_no_pull(
    catalog: Catalog, ask: Callable[[Catalog, str], object], pull_id: str
) -> None:
    with pytest.raises(InvalidArgument, match="There is no pull"):
        ask(catalog, pull_id)
    assert cancel_pull(catalog, pull_id) is None


def test_a_retry_refuses_impossible_ids_and_takes_the_others(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx, "p")
    refused: list[str] = []
    assert [pull.id for pull in _named(catalog, ["p", *NO_IDS, "p"], refused)] == ["p"]
    assert len(refused) == len(NO_IDS)
