"""Indexes, manifests and configs: what their rows hold, and hostile documents that are refused."""

import json
from typing import Any

import pytest

from shared.catalog.content import documents
from shared.catalog.database.catalog import Catalog, written_from_documents
from shared.catalog.model.tables import metadata
from shared.errors import InvalidManifest
from shared.oci.config import ImageConfig
from shared.oci.digest import Digest
from tests.builders import images as given
from tests.builders.images import OCI_CONFIG, of, together

RUN = {
    "Env": ["PATH=/bin", "A="],
    "Cmd": ["sh"],
    "Entrypoint": [],
    "WorkingDir": "/srv",
    "User": "1000:1000",
    "ExposedPorts": {"80/tcp": {}},
    "Volumes": {"/data": {}},
    "Labels": {"a": "b"},
    "StopSignal": "SIGTERM",
}


def save_config(catalog: Catalog, document: dict[str, Any]) -> dict[str, Any]:
    raw = json.dumps(document).encode()
    with catalog.begin() as tx:
        documents.save_config(tx, given.descriptor(raw, OCI_CONFIG), ImageConfig.parse(raw))
        row = tx.exec_driver_sql("SELECT * FROM configs").mappings().one()
    return dict(row)


def test_a_configs_lists_and_objects_are_stored_as_in_the_document(catalog: Catalog) -> None:
    diff_ids = [str(of("a")), str(of("a"))]
    row = save_config(
        catalog,
        {
            "os": "linux",
            "architecture": "arm64",
            "variant": "v8",
            "created": "2024-02-29T12:00:00.123456789Z",
            "config": RUN,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created_by": "x", "empty_layer": True}],
        },
    )
    assert row["created"].isoformat() == "2024-02-29T12:00:00.123456+00:00"
    assert (row["os"], row["architecture"], row["variant"]) == ("linux", "arm64", "v8")
    assert (row["env"], row["cmd"], row["entrypoint"]) == (["PATH=/bin", "A="], ["sh"], [])
    assert (row["working_dir"], row["user_name"]) == ("/srv", "1000:1000")
    assert (row["exposed_ports"], row["volumes"]) == ({"80/tcp": {}}, {"/data": {}})
    assert (row["labels"], row["stop_signal"]) == ({"a": "b"}, "SIGTERM")
    assert row["history"] == [{"created_by": "x", "empty_layer": True}]
    assert (row["rootfs_type"], row["diff_ids"]) == ("layers", diff_ids)
    assert row["document"]["config"] == RUN


@pytest.mark.parametrize(
    "created",
    [
        "yesterday",
        "2024-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-01:00",
        17,
    ],
)
def test_an_impossible_creation_time_is_null(catalog: Catalog, created: object) -> None:
    assert save_config(catalog, {"created": created})["created"] is None


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_first_and_the_last_year_can_be_read_back(catalog: Catalog, created: str) -> None:
    assert save_config(catalog, {"created": created})["created"].year == int(created[:4])


def test_variant_and_os_version_are_not_mixed_up(catalog: Catalog) -> None:
    row = save_config(
        catalog,
        {"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "variant": "v2"},
    )
    assert (row["variant"], row["os_version"]) == ("v2", "10.0.1")


def test_an_indexs_children_hold_their_own_platforms(catalog: Catalog) -> None:
    windows = {"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}
    index, raw = given.index(
        [
            given.entry("w", platform=windows),
            given.entry("v7", platform={"os": "linux", "architecture": "arm", "variant": "v7"}),
            given.entry("none", annotations={"a": "b"}),
        ]
    )
    with catalog.begin() as tx:
        documents.save_index(tx, Digest.of(raw), len(raw), index)
        children = given.rows(
            tx,
            "SELECT position, digest, os, architecture, variant, os_version, annotations "
            "FROM index_manifests ORDER BY position",
        )
    assert children == [
        (0, str(of("w")), "windows", "amd64", None, "10.0.1", None),
        (1, str(of("v7")), "linux", "arm", "v7", None, None),
        (2, str(of("none")), None, None, None, None, {"a": "b"}),
    ]


@pytest.mark.parametrize("config", [{}, {"config": None, "rootfs": None, "history": None}])
def test_a_field_that_a_config_omits_is_null_and_never_json_null(
    catalog: Catalog, config: dict[str, Any]
) -> None:
    save_config(catalog, config)
    nullable = [column.name for column in metadata.tables["configs"].c if column.nullable]
    with catalog.begin() as tx:
        conditions = ", ".join(f"{name} IS NULL" for name in nullable)
        (row,) = given.rows(tx, f"SELECT {conditions} FROM configs")
    filled = {name for name, is_null in zip(nullable, row, strict=True) if not is_null}
    assert filled == {"document"}


def test_an_empty_list_of_diff_ids_is_kept_as_an_empty_list(catalog: Catalog) -> None:
    row = save_config(catalog, {"rootfs": {"type": "layers", "diff_ids": []}})
    assert row["diff_ids"] == []


def test_a_document_saved_twice_is_one_row(catalog: Catalog) -> None:
    index, raw = given.index([given.entry("a"), given.entry("a")], annotations={"k": "v"})
    ids = set()
    for _ in range(2):
        with catalog.begin() as tx:
            ids.add(documents.save_index(tx, Digest.of(raw), len(raw), index))
    with catalog.begin() as tx:
        assert given.rows(tx, "SELECT id, schema_version, annotations FROM indexes") == [
            (ids.pop(), 2, {"k": "v"})
        ]
        assert given.rows(tx, "SELECT position FROM index_manifests") == [(0,), (1,)]
    assert ids == set()


def test_processes_that_save_one_image_at_once_get_the_same_id(catalog: Catalog) -> None:
    ids: set[int] = set()

    def save() -> None:
        with catalog.begin() as tx:
            ids.add(given.save(tx, given.image(["base"])))

    together([save] * 8)
    assert len(ids) == 1


def test_a_manifests_row_counts_distinct_layers_and_holds_the_document(catalog: Catalog) -> None:
    image = given.image(["base", "empty", "empty"])
    with catalog.begin() as tx:
        given.save(tx, image)
        row = tx.exec_driver_sql("SELECT * FROM manifests").mappings().one()
    assert row["digest"] == str(image.digest)
    assert row["size_bytes"] == len(image.manifest_raw)
    assert row["total_size_bytes"] == len(image.config_raw) + len("base") + len("empty")
    assert row["document"] == json.loads(image.manifest_raw)
    assert row["annotations"] is None
    assert row["config_id"] is not None


def test_a_config_that_an_artifact_named_first_is_filled_in_by_an_image(
    catalog: Catalog,
) -> None:
    image = given.image(["base"])
    artifact = given.descriptor(image.config_raw, "application/vnd.example.other")
    with catalog.begin() as tx:
        first = documents.save_config(tx, artifact, None)
        second = documents.save_config(tx, image.manifest.config, image.config)
        documents.save_config(tx, artifact, None)
        assert given.rows(tx, "SELECT id, media_type, os, document IS NULL FROM configs") == [
            (first, OCI_CONFIG, "linux", False)
        ]
    assert first == second


@pytest.mark.parametrize(
    "hostile",
    [
        b'{"os": "a\\u0000b"}',
        b'{"os": "\\ud800"}',
        b'{"\\udc00": 1}',
        b'{"a": 9223372036854775808}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": ' + b"[" * 101 + b"]" * 101 + b"}",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["nul", "surrogate", "key", "bigint", "nan", "infinity", "float", "deep", "deeper"],
)
def test_hostile_json_never_reaches_the_database(hostile: bytes) -> None:
    with pytest.raises(InvalidManifest):
        ImageConfig.parse(hostile)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["nul", "surrogate"])
@pytest.mark.parametrize("field", ["os", "document"])
def test_a_value_that_the_parser_missed_is_an_invalid_manifest_and_leaves_nothing(
    catalog: Catalog, field: str, text: str
) -> None:
    # The parser refuses these values; the catalog must refuse them without it.
    config = ImageConfig.parse(b"{}")
    value = {"a": text} if field == "document" else text
    object.__setattr__(config, field, value)
    with pytest.raises(InvalidManifest), catalog.begin() as tx, written_from_documents():
        documents.save_config(tx, given.descriptor(b"{}", OCI_CONFIG), config)
    with catalog.begin() as tx:
        assert given.rows(tx, "SELECT count(*) FROM configs") == [(0,)]


def test_the_largest_size_and_the_deepest_document_are_stored(catalog: Catalog) -> None:
    deepest = b'{"a": ' + b"[" * 99 + b"]" * 99 + b"}"
    largest = given.descriptor(b"{}", OCI_CONFIG)
    object.__setattr__(largest, "size", 2**63 - 1)
    with catalog.begin() as tx:
        documents.save_config(tx, largest, ImageConfig.parse(deepest))
        assert given.rows(tx, "SELECT size_bytes FROM configs") == [(2**63 - 1,)]
