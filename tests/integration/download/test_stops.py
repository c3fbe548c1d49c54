"""A stop from another thread ends a download at once, even while the registry is silent."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.download.downloader import download
from shared.download.progress import Progress
from shared.errors import BlobTruncated, PullCancelled
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.rate_limiter import Limits, RateLimiter
from shared.registry.blob_sources import BlobSource
from shared.registry.bodies import BlobBody
from shared.registry.client import RegistryClient
from shared.settings import Settings
from shared.volume.identity import prepare
from shared.volume.ingest.ingest import Ingest
from shared.volume.store import Volume
from tests.fakes.faults import NoContentLength, Stall
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

BLOB = os.urandom(300_000)
DIGEST = Digest.of(BLOB)
SIZE = len(BLOB)
CANCELLED = PullCancelled("The pull was cancelled.")
# Far longer than any test waits: the stall timeout ends nothing here.
SILENCE_SECONDS = 600


@pytest.fixture(params=["http", "https"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeRegistry]:
    tls = request.getfixturevalue("tls") if request.param == "https" else None
    trusted = f'ca_file = "{tls.authority}"' if tls else "plain_http = true"
    with FakeRegistry(tls=tls) as registry:
        file = tmp_path / "registries.toml"
        file.write_text(f'[registries."{registry.host}"]\n{trusted}\n')
        registry.put_image("team/app", "1", [BLOB])
        yield registry


@pytest.fixture(params=["sized", "chunked"])
def framing(request: pytest.FixtureRequest, registry: FakeRegistry) -> None:
    if request.param == "chunked":
        registry.fail(NoContentLength())


@pytest.fixture
def settings(registry: FakeRegistry, tmp_path: Path) -> Settings:
    return Settings.read(
        registries_file=tmp_path / "registries.toml", stall_timeout_seconds=SILENCE_SECONDS
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[RegistryClient]:
    client = RegistryClient(settings)
    yield client
    client.close()


@pytest.fixture
def rate_limiter() -> Iterator[RateLimiter]:
    rate_limiter = RateLimiter(None, Limits(connections=1, bandwidth_bytes_per_second=1))
    yield rate_limiter
    rate_limiter.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def source(client: RegistryClient, registry: FakeRegistry) -> BlobSource:
    return client.source(Reference.parse(f"{registry.host}/team/app:1"), DIGEST, SIZE)


def open_blob(client: RegistryClient, registry: FakeRegistry, first: int = 0) -> BlobBody:
    reference = Reference.parse(f"{registry.host}/team/app:1")
    return client.open_blob(reference, DIGEST, SIZE, first)


def read_into(received: bytearray, body: BlobBody) -> None:
    for block in body.blocks():
        received += block


@pytest.mark.usefixtures("framing")
def test_abort_ends_a_blocked_read_after_all_received_bytes(
    client: RegistryClient, registry: FakeRegistry, pool: ThreadPoolExecutor
) -> None:
    registry.fail(Stall(after_bytes=70_000))
    received = bytearray()
    with open_blob(client, registry) as body:
        reading = pool.submit(read_into, received, body)
        wait_until(lambda: len(received) == 70_000)
        body.abort()
        assert isinstance(reading.exception(timeout=10), BlobTruncated)
    assert received == BLOB[:70_000]


def test_abort_ends_a_wait_for_bandwidth(
    settings: Settings,
    registry: FakeRegistry,
    rate_limiter: RateLimiter,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    pace = rate_limiter.pace

    def noting(host: str, count: int, bytes_per_second: int) -> float:
        waits.append(pace(host, count, bytes_per_second))
        return waits[-1]

    monkeypatch.setattr(rate_limiter, "pace", noting)
    client, received = RegistryClient(settings, rate_limiter.acquire), bytearray()
    with open_blob(client, registry) as body:
        reading = pool.submit(read_into, received, body)
        wait_until(lambda: waits != [])
        body.abort()
        assert isinstance(reading.exception(timeout=10), BlobTruncated)
    client.close()
    # At one byte per second.
    assert waits == [len(received)]
    assert received == BLOB[: len(received)]


def test_the_connection_of_an_aborted_body_is_not_reused(
    client: RegistryClient, registry: FakeRegistry, pool: ThreadPoolExecutor
) -> None:
    registry.fail(Stall(after_bytes=70_000, times=1))
    received = bytearray()
    with open_blob(client, registry) as body:
        reading = pool.submit(read_into, received, body)
        wait_until(lambda: len(received) == 70_000)
        body.abort()
        assert reading.exception(timeout=10) is not None
    with open_blob(client, registry) as body:
        assert b"".join(body.blocks()) == BLOB
    assert len({request.port for request in registry.asked("/blobs/")}) == 2


@pytest.mark.usefixtures("framing")
def test_a_body_that_was_aborted_before_it_is_read_has_no_bytes(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    with open_blob(client, registry) as body:
        body.abort()
        body.abort()
        with pytest.raises(BlobTruncated):
            next(body.blocks())


def test_abort_after_the_end_does_not_affect_the_reused_connection(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    with open_blob(client, registry) as whole:
        assert b"".join(whole.blocks()) == BLOB
        with open_blob(client, registry) as next_body:
            whole.abort()
            assert b"".join(next_body.blocks()) == BLOB
        whole.abort()
    whole.abort()
    assert len({request.port for request in registry.asked("/blobs/")}) == 1


@contextmanager
def server_without_framing(raw: bytes) -> Iterator[str]:
    """Answers one request with a body without a length, then keeps the connection open."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + raw)
                done.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def test_an_aborted_body_without_a_length_is_not_taken_for_complete(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    with server_without_framing(BLOB[:1000]) as host:
        client = RegistryClient(Settings.read(stall_timeout_seconds=SILENCE_SECONDS))
        received = bytearray()
        reference = Reference.parse(f"{host}/team/app:1")
        with client.open_blob(reference, DIGEST, SIZE) as body:
            reading = pool.submit(read_into, received, body)
            wait_until(lambda: len(received) == 1000)
            body.abort()
            assert isinstance(reading.exception(timeout=10), BlobTruncated)
        client.close()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[str], Ingest]]:
    path = tmp_path / "volume"
    path.mkdir()
    volume = Volume(path, prepare(path, None))
    yield lambda owner: Ingest.begin(volume, DIGEST, SIZE, owner)
    volume.close()


@pytest.mark.usefixtures("framing")
def test_a_stopped_download_raises_the_reason_and_keeps_its_bytes(
    client: RegistryClient,
    registry: FakeRegistry,
    begin: Callable[[str], Ingest],
    pool: ThreadPoolExecutor,
) -> None:
    registry.fail(Stall(after_bytes=70_000, times=1))
    ingest, progress = begin("1"), Progress()
    downloading: Future[None] = pool.submit(download, source(client, registry), ingest, progress)
    wait_until(lambda: progress.offset == 70_000)

    progress.stop(CANCELLED)

    assert downloading.exception(timeout=10) is CANCELLED
    assert len(registry.asked("/blobs/")) == 1
    ingest.release()

    new_owner = begin("2")
    assert new_owner.offset == 70_000
    download(source(client, registry), new_owner, Progress())
    assert registry.asked("/blobs/")[-1].range == f"bytes=70000-{SIZE - 1}"
