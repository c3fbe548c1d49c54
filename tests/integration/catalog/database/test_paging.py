"""Lists in pages: every row once, in order, whatever changes between the pages."""

import pytest

from shared.catalog.content import image_rows
from shared.catalog.database import paging
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.database.paging import pages
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import finish, lifecycle, listings
from shared.catalog.reports import audit
from tests.builders import images as given
from tests.builders.pulls import fetching, record

NUMBERS = range(5)


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGE", 2)


def test_images_are_listed_by_name_in_pages(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        for number in NUMBERS:
            for platform in ("linux/amd64", "linux/arm64"):
                name = f"registry.example/app{number}:1"
                given.link(tx, given.image(["base"]), name, platform=platform)
    found = list(pages(catalog, image_rows.listing))
    assert [len(page) for page in found] == [2] * len(NUMBERS)
    assert [(image.reference, image.platform) for page in found for image in page] == [
        (f"registry.example/app{number}:1", platform)
        for number in NUMBERS
        for platform in ("linux/amd64", "linux/arm64")
    ]


def test_a_list_that_fills_its_last_page_has_no_empty_page(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        for number in range(2):
            given.link(tx, given.image(["base"]), f"registry.example/app{number}:1")
    assert [len(page) for page in pages(catalog, image_rows.listing)] == [2]
    assert list(pages(catalog, listings.recent)) == []


def test_pulls_of_the_same_time_are_listed_once(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        for number in NUMBERS:
            record(tx, f"pull {number}")
    ids = [pull.id for page in pages(catalog, listings.recent) for pull in page]
    assert ids == [f"pull {number}" for number in reversed(NUMBERS)]


def test_a_pull_that_is_recorded_while_a_list_is_read_shifts_no_other(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        for number in NUMBERS:
            record(tx, f"pull {number}")
    found = pages(catalog, listings.recent)
    first = next(found)
    with catalog.begin() as tx:
        record(tx, "newer")
    ids = [pull.id for page in [first, *found] for pull in page]
    assert ids == [f"pull {number}" for number in reversed(NUMBERS)]


def fail(tx: Connection, pull_id: str, error_class: str = "Forbidden") -> None:
    record(tx, pull_id)
    finish.fail(tx, pull_id, error_class, None, "No.")


def test_failures_that_are_retried_while_the_list_is_read_are_each_listed_once(
    catalog: Catalog,
) -> None:
    with catalog.begin() as tx:
        for number in NUMBERS:
            fail(tx, f"pull {number}")
    seen = []
    for page in pages(catalog, listings.failed):
        seen += [pull.id for pull in page]
        with catalog.begin() as tx:
            for pull in page:
                record(tx, f"again {pull.id}", retry_of=pull.id)
    assert seen == [f"pull {number}" for number in NUMBERS]


def test_failures_recorded_after_the_given_time_are_left_out(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        for number in NUMBERS:
            fail(tx, f"pull {number}")
    with catalog.begin() as tx:
        now = lifecycle.clock(tx)

    def look(tx: Connection, after: Pull | None) -> list[Pull]:
        return listings.failed(tx, after, until=now)

    seen = 0
    for page in pages(catalog, look):
        seen += len(page)
        with catalog.begin() as tx:
            for pull in page:
                fail(tx, f"again {pull.id}")
    assert seen == len(NUMBERS)


def test_failures_of_some_classes_are_left_out(tx: Connection) -> None:
    fail(tx, "unreadable", "InvalidReference")
    fail(tx, "forbidden")
    assert [pull.id for pull in listings.failed(tx, but=("InvalidReference",))] == ["forbidden"]


def test_a_list_is_counted_up_to_a_limit(tx: Connection) -> None:
    for number in NUMBERS:
        record(tx, f"pull {number}")
    assert [listings.count(tx, most) for most in (3, 5, 9)] == [3, 5, 5]


def test_every_layer_that_was_ever_pulled_is_listed_once(catalog: Catalog) -> None:
    digests = [given.of(f"layer {number}") for number in NUMBERS]
    with catalog.begin() as tx:
        for name in ("one", "two"):
            fetching(tx, name, digests)
        tx.exec_driver_sql("UPDATE pull_layers SET bytes_fetched = 60, attempts = 1")
    found = []
    for page in pages(catalog, audit.pulled_digests):
        with catalog.begin() as tx:
            found += audit.fetched(tx, page)
    assert [layer.digest for layer in found] == sorted(map(str, digests))
    counts = {(layer.size_bytes, layer.bytes_fetched, layer.starts) for layer in found}
    assert counts == {(100, 120, 2)}
