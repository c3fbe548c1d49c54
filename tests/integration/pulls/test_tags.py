"""What a tag names now, and what it has named before."""

from tests.fakes.registry import FakeRegistry
from tests.integration.pulls.wholeness import LARGE, SMALL, assert_whole
from tests.support.driver import Driver


def test_if_missing_asks_the_registry_nothing(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL])
    first = driver.pull(f"{registry.host}/a:1", policy="if-missing")
    asked = len(registry.requests)
    registry.put_image("a", "1", [LARGE])
    second = driver.pull(f"{registry.host}/a:1", policy="if-missing")
    assert second["manifest"] == first["manifest"]
    assert len(registry.requests) == asked


def test_a_registry_that_counts_pulls_is_asked_by_head_for_a_known_tag(
    driver: Driver, registry: FakeRegistry
) -> None:
    driver.resources.registry._counting.add(registry.host)
    name = f"{registry.host}/team/app:1"
    registry.put_image("team/app", "1", [SMALL])
    driver.pull(name)
    driver.pull(name)
    registry.put_image("team/app", "1", [LARGE])
    driver.pull(name)
    asked = [request for request in registry.requests if request.path.endswith("/manifests/1")]
    # A new tag: GET. A known tag: HEAD, and it is unchanged. Again: HEAD, and it has moved, so GET.
    assert [request.method for request in asked] == ["GET", "HEAD", "HEAD", "GET"]
    assert_whole(driver)


def test_a_moved_tag_fetches_what_changed_and_is_remembered(
    driver: Driver, registry: FakeRegistry
) -> None:
    name = f"{registry.host}/a:1"
    a = registry.put_image("a", "1", [SMALL, LARGE])
    driver.pull(name)
    b = registry.put_image("a", "1", [SMALL, b"new"])
    receipt = driver.pull(name)
    assert receipt["bytes_fetched"] == 3
    registry.put_image("a", "1", [SMALL, LARGE])
    driver.pull(name)
    history = driver.sql("SELECT manifest_digest FROM image_history ORDER BY first_seen_at")
    assert [row[0] for row in history] == [a, b, a]
    assert driver.sql("SELECT count(*) FROM image_layers") == [(2,)]


def test_an_older_resolution_that_links_later_moves_nothing_back(
    driver: Driver, registry: FakeRegistry
) -> None:
    name = f"{registry.host}/a:1"
    kwargs = {"reference": name, "platform": "linux/amd64"}
    registry.put_image("a", "1", [SMALL])
    old = driver.plan("old", kwargs)
    new = registry.put_image("a", "1", [LARGE])
    driver.pull(name)
    assert old is not None
    for digest in old.missing:
        driver.fetch("old", digest)
    driver.link("old")
    assert driver.row("old").state == "complete"
    assert driver.sql("SELECT digest FROM manifests JOIN images ON manifest_id = manifests.id") == [
        (new,)
    ]
    assert driver.sql("SELECT manifest_digest FROM image_history") == [(new,)]
    index = next((driver.volume / "images").rglob("index.json")).read_text()
    assert new in index


def test_an_if_missing_pull_does_not_overtake_a_pull_that_asked_the_registry(
    driver: Driver, registry: FakeRegistry
) -> None:
    kwargs = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    old = registry.put_image("a", "1", [SMALL])
    asked_at = driver.row(driver.pull(kwargs["reference"])["pull_id"]).resolved_at
    new = registry.put_image("a", "1", [LARGE])
    refresh = driver.plan("refresh", kwargs)
    assert refresh is not None
    if_missing = driver.pull(kwargs["reference"], policy="if-missing")
    assert if_missing["manifest"] == old
    assert driver.row(if_missing["pull_id"]).resolved_at == asked_at
    for digest in refresh.missing:
        driver.fetch("refresh", digest)
    driver.link("refresh")
    assert driver.sql("SELECT digest FROM manifests JOIN images ON manifest_id = manifests.id") == [
        (new,)
    ]


def test_a_digest_reference_is_pinned_and_writes_no_history(
    driver: Driver, registry: FakeRegistry
) -> None:
    digest = registry.put_image("a", None, [SMALL])
    receipt = driver.pull(f"{registry.host}/a:ignored@{digest}")
    assert receipt["manifest"] == digest
    assert registry.asked("manifests")[0].path == f"/v2/a/manifests/{digest}"
    assert driver.sql("SELECT 1 FROM image_history") == []
    assert (
        (driver.volume / "images")
        .joinpath(
            registry.host.replace(":", "_"),
            "a",
            "_digests",
            digest.replace(":", "-"),
            "linux-amd64",
        )
        .is_dir()
    )
