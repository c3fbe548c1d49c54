"""Response heads that are too large, too late or not HTTP, from a plain socket."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from shared import errors
from shared.oci.reference import Reference
from shared.registry.client import RegistryClient

Talk = Callable[[socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Talk], Reference]]:
    """Start a server that answers every connection with `talk`. Returns an image to request."""
    done = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def run(talk: Talk) -> None:
        while not done.is_set():
            try:
                connection = listening.accept()[0]
            except OSError:
                return
            with connection:
                connection.recv(65536)
                # The client may close the connection at any time.
                try:
                    talk(connection)
                except OSError:
                    continue

    def start(talk: Talk) -> Reference:
        threading.Thread(target=run, args=(talk,), daemon=True).start()
        return Reference.parse(f"127.0.0.1:{listening.getsockname()[1]}/team/app:1")

    yield start
    done.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


@pytest.fixture
def client(client_of: Callable[..., RegistryClient]) -> RegistryClient:
    return client_of(stall_timeout_seconds=0.2)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 101,
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 70_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Both: %s\r\n" % (b"x" * 60_000) * 3 + b"Content-Length: 0\r\n",
    ],
    ids=["many", "long", "both"],
)
def test_oversized_headers_become_one_sentence(
    serve: Callable[[Talk], Reference], client: RegistryClient, head: bytes
) -> None:
    image = serve(lambda connection: connection.sendall(head + b"\r\n"))
    with pytest.raises(
        errors.RegistryUnavailable, match=r"headers are too large|characters of headers"
    ):
        client.manifest(image)


def test_a_server_without_http_is_reported_as_such(
    serve: Callable[[Talk], Reference], client: RegistryClient
) -> None:
    image = serve(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n"))
    with pytest.raises(errors.RegistryUnavailable, match="did not answer with HTTP"):
        client.manifest(image)


def test_a_closed_connection_is_an_unavailable_registry(
    serve: Callable[[Talk], Reference], client: RegistryClient
) -> None:
    image = serve(lambda connection: connection.shutdown(socket.SHUT_RDWR))
    with pytest.raises(errors.RegistryUnavailable, match="cannot be reached"):
        client.manifest(image)


def repeated(piece: bytes) -> Talk:
    """Send `piece` again and again, without a stall, until the client closes the connection."""

    def talk(connection: socket.socket) -> None:
        connection.settimeout(0.02)
        connection.sendall(b"HTTP/1.1 ")
        while True:
            connection.sendall(piece)
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue

    return talk


@pytest.mark.parametrize("piece", [b"2", b"100 Continue\r\n\r\nHTTP/1.1 "], ids=["drip", "100"])
def test_an_endless_head_is_cut_off(
    serve: Callable[[Talk], Reference], client: RegistryClient, piece: bytes
) -> None:
    with pytest.raises(errors.RegistryUnavailable, match="in time"):
        client.manifest(serve(repeated(piece)))


def test_an_oversized_location_is_not_followed(
    serve: Callable[[Talk], Reference], client: RegistryClient
) -> None:
    location = b"Location: http://127.0.0.1/%s\r\nContent-Length: 0\r\n\r\n" % (b"x" * 20_000)
    head = b"HTTP/1.1 307 Temporary Redirect\r\n" + location
    image = serve(lambda connection: connection.sendall(head))
    with pytest.raises(errors.RegistryUnavailable, match="unusable URL") as caught:
        client.manifest(image)
    assert len(str(caught.value)) < 200
