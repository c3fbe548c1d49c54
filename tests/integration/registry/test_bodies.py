"""Wrong bodies: ranges, lengths, encodings, digests, and early ends."""

from contextlib import suppress

import pytest

from shared import errors
from shared.oci.descriptor import Descriptor
from shared.oci.reference import Reference
from shared.registry.client import RegistryClient
from tests.fakes.faults import (
    Corrupt,
    Cut,
    Encoded,
    ExtraBytes,
    Fault,
    IgnoreRange,
    Length,
    NoContentLength,
    RefuseRange,
    Status,
    WrongRange,
)
from tests.fakes.registry import FakeRegistry, digest_of
from tests.integration.registry.image import BLOB, DIGEST, name, read

SIZE = len(BLOB)


def test_the_first_request_has_no_range_and_a_resumed_one_a_closed_range(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    assert read(client, registry) == (0, BLOB)
    assert read(client, registry, SIZE - 1) == (SIZE - 1, BLOB[-1:])
    ranges = [request.range for request in registry.asked("/blobs/")]
    assert ranges == [None, f"bytes={SIZE - 1}-{SIZE - 1}"]


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        (IgnoreRange(), 1),
        (WrongRange(shift=-1), 2),
        (WrongRange(shift=1), 2),
        (WrongRange(total=SIZE + 1), 2),
        (RefuseRange(status=400), 2),
        (RefuseRange(status=416), 2),
        (RefuseRange(status=416, total=SIZE), 2),
    ],
    ids=repr,
)
def test_a_refused_range_becomes_the_whole_blob_in_the_same_call(
    client: RegistryClient, registry: FakeRegistry, fault: Fault, requests: int
) -> None:
    registry.fail(fault)
    assert read(client, registry, 100_000) == (0, BLOB)
    assert len(registry.asked("/blobs/")) == requests


def test_a_206_without_content_range_proves_nothing(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.fail(Status(status=206, body=b"x" * 100, times=1))
    assert read(client, registry, 100_000) == (0, BLOB)


def test_a_206_without_a_requested_range_is_refused(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.fail(Status(status=206, body=BLOB))
    with pytest.raises(errors.RegistryUnavailable, match="206"):
        read(client, registry)


@pytest.mark.parametrize("first", [0, 1000])
@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503])
def test_the_body_of_an_error_is_never_taken_for_the_blob(
    client: RegistryClient, registry: FakeRegistry, first: int, status: int
) -> None:
    registry.fail(Status(status=status, body=b"<html>no</html>"))
    expected = {
        401: errors.Unauthorized,
        403: errors.Forbidden,
        404: errors.BlobUnknown,
        429: errors.RateLimited,
    }
    with pytest.raises(expected.get(status, errors.RegistryUnavailable)):
        read(client, registry, first)


def test_a_429_carries_the_registrys_retry_after(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.fail(Status(status=429, headers={"Retry-After": "1.5"}))
    with pytest.raises(errors.RateLimited) as caught:
        read(client, registry)
    assert caught.value.retry_after_seconds == 1.5


@pytest.mark.parametrize("first", [0, 1000])
@pytest.mark.parametrize("encoding", ["gzip", "zstd", "x-unheard-of"])
def test_an_encoding_that_was_not_requested_is_refused(
    client: RegistryClient, registry: FakeRegistry, encoding: str, first: int
) -> None:
    registry.fail(Encoded(encoding=encoding), NoContentLength())
    with pytest.raises(errors.RegistryUnavailable, match=f"Content-Encoding {encoding}"):
        read(client, registry, first)


@pytest.mark.parametrize("first", [0, 1000])
def test_an_encoding_that_is_only_a_label_is_ignored(
    client: RegistryClient, registry: FakeRegistry, first: int
) -> None:
    registry.fail(Encoded(encoding="x-gzip"))
    assert read(client, registry, first) == (first, BLOB[first:])


def test_identity_is_no_encoding(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.fail(Encoded(encoding="identity"))
    assert read(client, registry) == (0, BLOB)
    assert {request.headers["accept-encoding"] for request in registry.requests} == {"identity"}


@pytest.mark.parametrize("length", [0, 5, SIZE - 1])
def test_a_length_that_contradicts_the_descriptor_is_refused_before_any_byte(
    client: RegistryClient, registry: FakeRegistry, length: int
) -> None:
    registry.fail(Length(length=length))
    with pytest.raises(errors.SizeMismatch, match=f"{length} bytes instead of {SIZE}"):
        client.open_blob(name(registry), DIGEST, SIZE)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (IgnoreRange(), False),
        (RefuseRange(status=400), False),
        # The descriptor is wrong, or a proxy sent a page. Neither says anything about ranges.
        (WrongRange(total=SIZE + 1), True),
        (Status(status=200, body=b"<html>"), True),
    ],
    ids=repr,
)
def test_a_host_without_ranges_is_remembered(
    client: RegistryClient, registry: FakeRegistry, fault: Fault, *, expected: bool
) -> None:
    registry.fail(fault)
    source = client.source(name(registry), DIGEST, SIZE)
    with suppress(errors.SizeMismatch), source.open(1000, 2000):
        pass
    assert source.serves_ranges is expected


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_a_broken_body_raises_after_all_received_bytes(
    client: RegistryClient, registry: FakeRegistry, *, chunked: bool, reset: bool
) -> None:
    registry.fail(Cut(after_bytes=70_000, reset=reset))
    if chunked:
        registry.fail(NoContentLength())
    blocks: list[bytes] = []
    with client.open_blob(name(registry), DIGEST, SIZE, 1000) as body:
        arriving = body.blocks(1024)
        with pytest.raises(errors.BlobTruncated):
            blocks.extend(arriving)
    got = b"".join(blocks)
    assert body.first == 1000
    assert BLOB[1000:].startswith(got)
    # A reset may discard bytes that the kernel still held; an ordinary end never does.
    assert reset or len(got) == 70_000


def test_excess_bytes_reach_the_caller(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.fail(ExtraBytes(count=7))
    assert read(client, registry) == (0, BLOB + b"x" * 7)


def descriptor() -> Descriptor:
    return Descriptor("application/json", DIGEST, SIZE)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (ExtraBytes(count=1), errors.SizeMismatch),
        (Cut(after_bytes=10), errors.BlobTruncated),
        (Corrupt(byte=5), errors.DigestMismatch),
        (Status(status=404), errors.BlobUnknown),
    ],
    ids=repr,
)
def test_a_small_blob_is_verified(
    client: RegistryClient,
    registry: FakeRegistry,
    fault: Fault,
    kind: type[errors.TowlineError],
) -> None:
    registry.fail(fault)
    with pytest.raises(kind):
        client.blob(name(registry), descriptor(), SIZE)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Corrupt(path="/manifests/", byte=3), errors.DigestMismatch),
        (Cut(path="/manifests/", after_bytes=10), errors.RegistryUnavailable),
        (Encoded(path="/manifests/"), errors.RegistryUnavailable),
        (Status(path="/manifests/", status=200), errors.RegistryUnavailable),
        (Status(path="/manifests/", status=204), errors.RegistryUnavailable),
    ],
    ids=repr,
)
def test_an_incomplete_or_wrong_manifest_is_refused(
    client: RegistryClient,
    registry: FakeRegistry,
    fault: Fault,
    kind: type[errors.TowlineError],
) -> None:
    registry.fail(fault)
    with pytest.raises(kind):
        client.manifest(name(registry))


@pytest.mark.parametrize(
    ("stated", "accepted"),
    [
        (digest_of(b"{}"), True),
        (digest_of(b"{}", "sha512"), True),
        (digest_of(b"other"), False),
        (digest_of(b"other", "sha512"), False),
        # A malformed digest is ignored.
        ("md5:abc", True),
        ("../../etc", True),
    ],
)
def test_a_stated_digest_is_checked_with_its_own_algorithm(
    client: RegistryClient, registry: FakeRegistry, stated: str, *, accepted: bool
) -> None:
    headers = {"Docker-Content-Digest": stated}
    registry.fail(Status(path="/manifests/", status=200, body=b"{}", headers=headers))
    if accepted:
        assert str(client.manifest(name(registry)).digest) == digest_of(b"{}")
        return
    with pytest.raises(errors.DigestMismatch):
        client.manifest(name(registry))


def test_a_manifest_is_requested_by_digest_rather_than_tag(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    _, raw = registry.manifests["team/app", "1"]
    pinned = Reference.parse(f"{registry.host}/team/app:1@{digest_of(raw)}")
    document = client.manifest(pinned)
    assert (document.raw, str(document.digest)) == (raw, digest_of(raw))
    (request,) = registry.requests
    assert request.path == f"/v2/team/app/manifests/{digest_of(raw)}"


def test_the_media_type_has_no_parameters(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.put_manifest("team/app", "1", b"{}", "application/json; charset=utf-8")
    assert client.manifest(name(registry)).media_type == "application/json"
