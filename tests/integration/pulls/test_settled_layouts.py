"""A layout matches its image's row in the end, even if a pull ends between writing the two."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.catalog.content import layouts
from shared.catalog.pulls import finish
from shared.pulls import laying_out, linking
from shared.pulls.cancelling import cancel_pull, miss_deadline
from tests.fakes.registry import FakeRegistry
from tests.integration.pulls.wholeness import LARGE, SMALL
from tests.support.driver import Driver

PLATFORM = "linux/amd64"


class _Killed(BaseException):
    """An exception that no handler catches, like the end of the process."""


def die(*_: object) -> None:
    raise _Killed


def cancel(driver: Driver) -> None:
    cancel_pull(driver.resources.catalog, "p")


def be_late(driver: Driver) -> None:
    driver.change("UPDATE pulls SET deadline_at = now() WHERE id = 'p'")
    miss_deadline(driver.resources.catalog, "p")


def fail(driver: Driver) -> None:
    with driver.resources.catalog.begin() as tx:
        finish.fail(tx, "p", "PoisonLayer", None, "It ended its workers.")


def fetched(driver: Driver, reference: str) -> None:
    """Plan and fetch the pull `p`, but do not link it."""
    plan = driver.plan("p", {"reference": reference, "platform": PLATFORM})
    for digest in plan.missing if plan else ():
        driver.fetch("p", digest)


def killed_before_its_row(driver: Driver, reference: str) -> None:
    """Link the pull `p` with a worker that dies between the layout and the row."""
    fetched(driver, reference)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linking, "_complete", die)
        with pytest.raises(_Killed):
            driver.link("p")


def index(driver: Driver) -> Path:
    (found,) = (driver.volume / "images").rglob("index.json")
    return found


def laid_out(driver: Driver) -> str:
    """The manifest that the only layout names; all of its blobs are there."""
    found = index(driver)
    (entry,) = json.loads(found.read_bytes())["manifests"]
    blobs = found.parent / "blobs/sha256"
    manifest = json.loads((blobs / entry["digest"].partition(":")[2]).read_bytes())
    for descriptor in (manifest["config"], *manifest["layers"]):
        assert (blobs / descriptor["digest"].partition(":")[2]).is_file()
    return str(entry["digest"])


def unsettled(driver: Driver) -> list[str]:
    with driver.resources.catalog.begin() as tx:
        return list(layouts.unsettled(tx))


@pytest.mark.parametrize("end", [cancel, be_late, fail])
def test_the_layout_goes_back_to_what_the_image_names(
    driver: Driver, registry: FakeRegistry, end: Callable[[Driver], None]
) -> None:
    name = f"{registry.host}/a:1"
    old = registry.put_image("a", "1", [SMALL])
    driver.pull(name)
    new = registry.put_image("a", "1", [LARGE])
    killed_before_its_row(driver, name)
    assert laid_out(driver) == new
    assert unsettled(driver) == []
    end(driver)
    assert unsettled(driver) == ["p"]
    assert driver.link("p") is None
    assert laid_out(driver) == old
    assert unsettled(driver) == []


@pytest.mark.parametrize("end", [cancel, be_late, fail])
def test_the_layout_of_an_image_that_was_never_linked_is_removed(
    driver: Driver, registry: FakeRegistry, end: Callable[[Driver], None]
) -> None:
    registry.put_image("a", "1", [SMALL])
    killed_before_its_row(driver, f"{registry.host}/a:1")
    platform = index(driver).parent
    end(driver)
    driver.link("p")
    assert not platform.exists()
    assert unsettled(driver) == []


def test_a_layout_that_an_older_pull_wrote_last_is_corrected(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{registry.host}/a:1"
    old = registry.put_image("a", "1", [SMALL])
    fetched(driver, name)
    new = registry.put_image("a", "1", [LARGE])
    write = laying_out.write_layout

    def overtaken(*arguments: object) -> None:
        monkeypatch.setattr(laying_out, "write_layout", write)
        driver.pull(name, "newer")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(laying_out, "write_layout", overtaken)
    monkeypatch.setattr(linking, "settle_layout", lambda *_: None)
    driver.link("p")
    monkeypatch.undo()
    assert driver.row("p").state == "complete"
    assert laid_out(driver) == old
    assert unsettled(driver) == ["newer", "p"]
    for pull_id in unsettled(driver):
        driver.link(pull_id)
    assert laid_out(driver) == new
    assert unsettled(driver) == []


def test_a_cancel_in_the_middle_of_the_link_leaves_no_layout(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_image("a", "1", [SMALL])
    fetched(driver, f"{registry.host}/a:1")
    complete = linking._complete

    def cancelled(*arguments: object) -> object:
        cancel(driver)
        return complete(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(linking, "_complete", cancelled)
    assert driver.link("p") is None
    assert list((driver.volume / "images").rglob("index.json")) == []
    assert unsettled(driver) == []


def test_the_layout_of_a_digest_stays_for_an_image_with_another_tag(
    driver: Driver, registry: FakeRegistry
) -> None:
    digest = registry.put_image("a", "1", [SMALL])
    driver.pull(f"{registry.host}/a:1@{digest}")
    # The same directory, but another row: the catalog has linked one of the two names only.
    killed_before_its_row(driver, f"{registry.host}/a:2@{digest}")
    cancel(driver)
    driver.link("p")
    assert laid_out(driver) == digest
    assert unsettled(driver) == []


def test_a_blob_that_another_writer_removed_is_written_again(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_image("a", "1", [SMALL])
    fetched(driver, f"{registry.host}/a:1")
    complete = linking._complete

    def robbed(*arguments: object) -> object:
        for blob in (index(driver).parent / "blobs/sha256").iterdir():
            blob.unlink()
        return complete(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(linking, "_complete", robbed)
    driver.link("p")
    assert laid_out(driver) == driver.row("p").manifest_digest


def test_a_single_pull_leaves_no_unsettled_layout(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.pull(f"{registry.host}/a:1")
    assert driver.sql("SELECT count(*) FROM pulls WHERE layout_unsettled") == [(0,)]
