"""Images: what a reference names, which files that is, and what it named before."""

import pytest
from sqlalchemy.exc import IntegrityError

from shared.catalog.content import image_links, image_rows, stored_blobs
from shared.catalog.database.catalog import Catalog
from shared.errors import InvalidManifest
from shared.oci.manifest import layers_with_diff_ids
from tests.builders import images as given
from tests.builders.images import PLATFORM, TAG, hour, of, together

HISTORY = "SELECT manifest_digest, first_seen_at FROM image_history ORDER BY id"


def named(catalog: Catalog, reference: str = TAG, platform: str = PLATFORM) -> str | None:
    with catalog.begin() as tx:
        row = image_rows.current(tx, reference, platform)
    return row.manifest_digest if row else None


def history(catalog: Catalog) -> list[tuple[str, object]]:
    with catalog.begin() as tx:
        return [(digest, seen) for digest, seen in given.rows(tx, HISTORY)]


# Bugs B39 to B54 of what the project came from: sizes, positions, repeats, moved tags


def test_an_images_size_is_its_config_and_distinct_layers(catalog: Catalog) -> None:
    image = given.image(["base", "empty", "empty"])
    with catalog.begin() as tx:
        given.link(tx, image)
        row = image_rows.current(tx, TAG, PLATFORM)
    assert row is not None
    assert row.size_bytes == len(image.config_raw) + len("base") + len("empty")


def test_a_moved_tag_shows_only_the_layers_it_names_now(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        given.link(tx, given.image(["base", "old"]), at=hour(1))
        given.link(tx, given.image(["base", "new"]), at=hour(2))
        files = image_rows.layers_of(tx, TAG, PLATFORM)
    assert [file.digest for file in files] == [str(of("base")), str(of("new"))]


def test_pulling_the_same_image_twice_adds_no_row(catalog: Catalog) -> None:
    tables = ("images", "manifests", "configs", "layers", "manifest_layers", "image_history")
    for number in (1, 2):
        with catalog.begin() as tx:
            given.link(tx, given.image(["base", "top"]), at=hour(number))
    with catalog.begin() as tx:
        counts = {name: given.rows(tx, f"SELECT count(*) FROM {name}")[0][0] for name in tables}
    assert counts == {
        "images": 1,
        "manifests": 1,
        "configs": 1,
        "layers": 2,
        "manifest_layers": 2,
        "image_history": 1,
    }


def test_layers_are_listed_by_position_whatever_order_they_landed_in(catalog: Catalog) -> None:
    names = ["e", "d", "c", "b", "a", "f"]
    with catalog.begin() as tx:
        for name in sorted(names, key=lambda name: str(of(name))):
            stored_blobs.store_layer(tx, of(name), len(name))
        given.link(tx, given.image(names))
        files = image_rows.layers_of(tx, TAG, PLATFORM)
        unordered = given.rows(tx, "SELECT digest FROM image_layers")
    assert [file.digest for file in files] == [str(of(name)) for name in names]
    assert [file.position for file in files] == list(range(6))
    assert [row[0] for row in unordered] == [str(of(name)) for name in names]


def test_a_layer_may_be_at_several_positions(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        given.link(tx, given.image(["base", "empty", "top", "empty"]))
        files = image_rows.layers_of(tx, TAG, PLATFORM)
        assert given.rows(tx, "SELECT count(*) FROM layers") == [(3,)]
    assert [file.digest for file in files] == [
        str(of(name)) for name in ("base", "empty", "top", "empty")
    ]


def test_concurrent_links_of_one_image_make_one_image(catalog: Catalog) -> None:
    def pull() -> None:
        with catalog.begin() as tx:
            given.link(tx, given.image(["base", "top"]), at=hour(1))

    together([pull] * 8)
    with catalog.begin() as tx:
        assert given.rows(tx, "SELECT count(*) FROM images") == [(1,)]
        assert given.rows(tx, "SELECT count(*) FROM image_history") == [(1,)]
        assert given.rows(tx, "SELECT count(*) FROM manifest_layers") == [(2,)]


def test_claims_of_another_image_do_not_change_a_shared_layer(catalog: Catalog) -> None:
    lying = given.image(
        ["base"],
        {"rootfs": {"type": "layers", "diff_ids": [str(of("a lie"))]}},
        layer_type="application/vnd.docker.image.rootfs.diff.tar.gzip",
    )
    with catalog.begin() as tx:
        given.link(tx, given.image(["base"]), TAG)
        stored_blobs.store_layer(tx, of("base"), 4, of("tar of base"))
        given.link(tx, lying, "registry.example/liar:1")
        (honest,) = image_rows.layers_of(tx, TAG, PLATFORM)
        (liar,) = image_rows.layers_of(tx, "registry.example/liar:1", PLATFORM)
        assert given.rows(tx, "SELECT diff_id, size_bytes FROM layers") == [
            (str(of("tar of base")), 4)
        ]
    assert (honest.media_type, honest.diff_id) == (given.OCI_LAYER, str(of("tar of base")))
    assert (liar.media_type, liar.diff_id) == (
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        str(of("a lie")),
    )


def test_a_layer_that_is_not_stored_cannot_be_linked(catalog: Catalog) -> None:
    image = given.image(["base", "missing"])
    with catalog.begin() as tx:
        given.save(tx, image)
        stored_blobs.store_layer(tx, of("base"), 4)
        stored_blobs.expect_blobs(tx, [of("missing")])
    with pytest.raises(IntegrityError), catalog.begin() as tx:
        image_links.link_layers(
            tx, image.digest, layers_with_diff_ids(image.manifest, image.config)
        )
    with catalog.begin() as tx:
        assert given.rows(tx, "SELECT count(*) FROM manifest_layers") == [(0,)]


def test_an_image_with_fewer_diff_ids_than_layers_is_an_error(catalog: Catalog) -> None:
    image = given.image(["base", "top"], {"rootfs": {"type": "layers", "diff_ids": [str(of("a"))]}})
    with pytest.raises(InvalidManifest), catalog.begin() as tx:
        given.link(tx, image)
    assert named(catalog) is None


# A layer that is also a document


def test_a_blob_that_was_stored_as_a_config_can_be_linked_as_a_layer(catalog: Catalog) -> None:
    # The image-spec's guidance for artifacts without content: the empty blob is config and layer.
    image = given.image(["{}"], config_type="application/vnd.oci.empty.v1+json")
    with catalog.begin() as tx:
        given.save(tx, image)
        stored_blobs.store_blobs(tx, {of("{}"): 2})
        image_links.link_layers(
            tx, image.digest, layers_with_diff_ids(image.manifest, image.config)
        )
        assert given.rows(tx, "SELECT digest, size_bytes, diff_id FROM layers") == [
            (str(of("{}")), 2, None)
        ]


# Moved tags and their history


def test_a_tag_that_goes_from_a_to_b_and_back_makes_three_rows_of_history(
    catalog: Catalog,
) -> None:
    a, b = given.image(["a"]), given.image(["b"])
    for number, image in enumerate([a, a, b, b, a]):
        with catalog.begin() as tx:
            assert given.link(tx, image, at=hour(number))
    assert history(catalog) == [
        (str(a.digest), hour(0)),
        (str(b.digest), hour(2)),
        (str(a.digest), hour(4)),
    ]
    assert named(catalog) == str(a.digest)


def test_an_older_resolution_that_links_later_changes_nothing(catalog: Catalog) -> None:
    old, new = given.image(["old"]), given.image(["new"])
    with catalog.begin() as tx:
        assert given.link(tx, new, at=hour(2))
        assert not given.link(tx, old, at=hour(1))
    assert named(catalog) == str(new.digest)
    assert history(catalog) == [(str(new.digest), hour(2))]


def test_linking_the_same_resolution_twice_adds_no_history(catalog: Catalog) -> None:
    image = given.image(["a"])
    for _ in range(2):
        with catalog.begin() as tx:
            assert given.link(tx, image, at=hour(1))
    assert history(catalog) == [(str(image.digest), hour(1))]


def test_after_concurrent_links_the_tag_names_the_newest_resolution(catalog: Catalog) -> None:
    pulled = [given.image([f"layer {number}"]) for number in range(8)]

    def link(number: int) -> None:
        with catalog.begin() as tx:
            given.link(tx, pulled[number], at=hour(number))

    together([lambda number=number: link(number) for number in range(8)])
    assert named(catalog) == str(pulled[7].digest)
    seen = [time for _, time in history(catalog)]
    assert seen == sorted(seen)
    assert history(catalog)[-1] == (str(pulled[7].digest), hour(7))


def test_a_digest_reference_writes_no_history(catalog: Catalog) -> None:
    image = given.image(["a"])
    with catalog.begin() as tx:
        given.link(tx, image, f"registry.example/team/app@{image.digest}", is_tag=False)
    assert history(catalog) == []
    assert named(catalog, f"registry.example/team/app@{image.digest}") == str(image.digest)


def test_every_platform_of_a_tag_has_its_own_image_and_history(catalog: Catalog) -> None:
    amd64, arm64 = given.image(["amd64"]), given.image(["arm64"])
    with catalog.begin() as tx:
        given.link(tx, amd64)
        given.link(tx, arm64, platform="linux/arm64")
        assert [row.platform for row in image_rows.listing(tx)] == ["linux/amd64", "linux/arm64"]
    assert named(catalog) == str(amd64.digest)
    assert named(catalog, platform="linux/arm64") == str(arm64.digest)
    assert len(history(catalog)) == 2


# The view that a sandbox host reads


def test_the_paths_of_the_view_are_relative_to_the_volume(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        given.link(tx, given.image(["base"]))
        (file,) = image_rows.layers_of(tx, TAG, PLATFORM)
    assert file.path == f"blobs/sha256/{of('base').encoded}"
    assert file.size_bytes == 4


def test_an_unknown_image_has_no_files_and_no_row(catalog: Catalog) -> None:
    assert named(catalog) is None
    with catalog.begin() as tx:
        assert image_rows.layers_of(tx, TAG, PLATFORM) == []


@pytest.mark.parametrize(("age", "moves"), [("59 minutes", False), ("61 minutes", True)])
def test_last_used_moves_at_most_hourly(catalog: Catalog, age: str, moves: bool) -> None:
    with catalog.begin() as tx:
        given.link(tx, given.image(["base"]))
        tx.exec_driver_sql(f"UPDATE images SET last_used_at = now() - interval '{age}'")
    with catalog.begin() as tx:
        given.link(tx, given.image(["base"]))
        is_new = "SELECT last_used_at = now() FROM images"
        assert given.rows(tx, is_new) == [(moves,)]
