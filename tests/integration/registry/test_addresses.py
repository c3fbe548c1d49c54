"""The addresses that a registry may redirect to, and DNS rebinding.

In these tests 127.0.0.1 counts as a public address and 127.0.0.2 as a private one.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterator

import pytest

from shared import errors
from shared.oci.reference import Reference
from shared.registry.client import RegistryClient
from shared.registry.transport import addresses
from tests.fakes.faults import Redirect, Status
from tests.fakes.registry import FakeRegistry
from tests.fakes.resolver import FakeResolver
from tests.integration.registry.image import BLOB, DIGEST
from tests.support.secrecy import leaks_in

WORLD, INSIDE, METADATA = "127.0.0.1", "127.0.0.2", "169.254.169.254"


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> FakeResolver:
    private = (ipaddress.ip_network(INSIDE),)
    monkeypatch.setattr(addresses, "_PRIVATE_NETWORKS", private)
    resolver = FakeResolver()
    resolver.install(monkeypatch)
    resolver.name("registry.example", [WORLD])
    return resolver


@pytest.fixture
def inside() -> Iterator[socket.socket]:
    """A service in the private network, which no public registry may make us call."""
    with socket.create_server((INSIDE, 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
def client_at(client_of: Callable[..., RegistryClient]) -> Callable[..., RegistryClient]:
    """Make a client that uses http for `registry.example` at the port of a registry."""

    def make(port: int, *lines: str) -> RegistryClient:
        table = f'[registries."registry.example:{port}"]', "plain_http = true"
        return client_of("\n".join([*table, *lines]))

    return make


def port_of(registry: FakeRegistry) -> int:
    return int(registry.host.rpartition(":")[2])


def name(port: int) -> Reference:
    return Reference.parse(f"registry.example:{port}/team/app:1")


def read(client: RegistryClient, port: int) -> bytes:
    with client.open_blob(name(port), DIGEST, len(BLOB)) as body:
        return b"".join(body.blocks())


def is_untouched(listening: socket.socket) -> bool:
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return True
    return False


def test_a_public_registry_cannot_redirect_into_the_private_network(
    client_at: Callable[..., RegistryClient],
    resolver: FakeResolver,
    registry: FakeRegistry,
    inside: socket.socket,
) -> None:
    port = port_of(registry)
    resolver.name("storage.example", [INSIDE])
    registry.fail(Redirect(host=f"storage.example:{inside.getsockname()[1]}"))
    with pytest.raises(errors.RegistryNotAllowed, match="private_addresses = true") as caught:
        read(client_at(port), port)
    assert "storage.example" in str(caught.value)
    assert leaks_in(str(caught.value)) == []
    assert is_untouched(inside)


def test_a_public_registry_cannot_name_a_realm_in_the_private_network(
    client_at: Callable[..., RegistryClient],
    resolver: FakeResolver,
    registry: FakeRegistry,
    inside: socket.socket,
) -> None:
    port = port_of(registry)
    resolver.name("auth.example", [INSIDE])
    realm = f"http://auth.example:{inside.getsockname()[1]}/token"
    header = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    registry.fail(Status(path="/v2/", status=401, headers=header))
    with pytest.raises(errors.RegistryNotAllowed, match=r"auth\.example"):
        client_at(port).manifest(name(port))
    assert is_untouched(inside)


@pytest.mark.parametrize("forbidden", [INSIDE, METADATA])
def test_a_name_is_resolved_once_so_rebinding_has_no_effect(
    client_at: Callable[..., RegistryClient],
    resolver: FakeResolver,
    registry: FakeRegistry,
    storage: FakeRegistry,
    forbidden: str,
) -> None:
    port = port_of(registry)
    resolver.name("storage.example", [WORLD], [forbidden])
    registry.fail(Redirect(host=f"storage.example:{port_of(storage)}"))
    with socket.create_server((INSIDE, port_of(storage))) as listening:
        listening.setblocking(False)
        client = client_at(port)
        assert read(client, port) == BLOB
        assert resolver.asked.count("storage.example") == 1
        # The kept connection leads to the checked address. A new one is checked again, and refused.
        assert read(client, port) == BLOB
        client.close()
        with pytest.raises(errors.RegistryNotAllowed):
            read(client, port)
        assert is_untouched(listening)


@pytest.mark.parametrize("forbidden", [INSIDE, METADATA])
def test_only_the_allowed_addresses_of_a_name_are_connected_to(
    client_at: Callable[..., RegistryClient],
    resolver: FakeResolver,
    registry: FakeRegistry,
    storage: FakeRegistry,
    forbidden: str,
) -> None:
    port = port_of(registry)
    registry.fail(Redirect(host=f"storage.example:{port_of(storage)}"))
    with socket.create_server((INSIDE, port_of(storage))) as listening:
        listening.setblocking(False)
        resolver.name("storage.example", [forbidden, WORLD])
        assert read(client_at(port), port) == BLOB
        # If the allowed address refuses, the forbidden ones are still not used.
        resolver.name("storage.example", ["127.0.0.3", forbidden])
        with pytest.raises(errors.RegistryUnavailable):
            read(client_at(port), port)
        assert is_untouched(listening)


def test_a_redirect_of_a_public_registry_cannot_use_a_kept_private_connection(
    client_at: Callable[..., RegistryClient],
    resolver: FakeResolver,
    registry: FakeRegistry,
    storage: FakeRegistry,
) -> None:
    port, other = port_of(registry), port_of(storage)
    storage.put_image("team/app", "1", [BLOB])
    resolver.name("inside.example", [WORLD])
    client = client_at(port, f'[registries."inside.example:{other}"]', "plain_http = true")
    # Given a pull from the private registry itself:
    client.manifest(Reference.parse(f"inside.example:{other}/team/app:1"))
    seen = len(storage.requests)
    resolver.name("inside.example", [INSIDE])
    registry.fail(Redirect(host=f"inside.example:{other}"))
    with pytest.raises(errors.RegistryNotAllowed):
        read(client, port)
    assert len(storage.requests) == seen


def test_a_private_registry_may_redirect_into_its_network(
    client_at: Callable[..., RegistryClient],
    monkeypatch: pytest.MonkeyPatch,
    resolver: FakeResolver,
    registry: FakeRegistry,
    storage: FakeRegistry,
) -> None:
    monkeypatch.setattr(addresses, "_PRIVATE_NETWORKS", (ipaddress.ip_network(WORLD),))
    port = port_of(registry)
    resolver.name("storage.example", [WORLD])
    registry.fail(Redirect(host=f"storage.example:{port_of(storage)}"))
    assert read(client_at(port), port) == BLOB


def test_a_private_registry_may_not_redirect_to_a_metadata_service(
    client_at: Callable[..., RegistryClient],
    monkeypatch: pytest.MonkeyPatch,
    resolver: FakeResolver,
    registry: FakeRegistry,
) -> None:
    monkeypatch.setattr(addresses, "_PRIVATE_NETWORKS", (ipaddress.ip_network(WORLD),))
    port = port_of(registry)
    resolver.name("storage.example", [METADATA])
    registry.fail(Redirect(host="storage.example"))
    with pytest.raises(errors.RegistryNotAllowed, match="never connects"):
        read(client_at(port), port)


def test_private_addresses_are_allowed_by_the_setting(
    client_at: Callable[..., RegistryClient],
    monkeypatch: pytest.MonkeyPatch,
    resolver: FakeResolver,
    registry: FakeRegistry,
    inside: socket.socket,
) -> None:
    port = port_of(registry)
    resolver.name("storage.example", [INSIDE])
    registry.fail(Redirect(host=f"storage.example:{inside.getsockname()[1]}"))
    # The address is connected to, and stays silent.
    with pytest.raises(errors.RegistryUnavailable, match="in time"):
        read(client_at(port, "private_addresses = true"), port)
    assert not is_untouched(inside)


def test_a_registry_itself_is_never_a_metadata_service(
    client_at: Callable[..., RegistryClient], resolver: FakeResolver
) -> None:
    resolver.name("registry.example", [METADATA])
    with pytest.raises(errors.RegistryNotAllowed, match="never connects"):
        client_at(80).manifest(name(80))


def test_after_an_address_that_refuses_the_next_one_is_used(
    client_at: Callable[..., RegistryClient], resolver: FakeResolver, registry: FakeRegistry
) -> None:
    port = port_of(registry)
    resolver.name("registry.example", ["::1", "127.0.0.3", WORLD])
    assert client_at(port).manifest(name(port)).raw


def test_a_silent_address_does_not_delay_the_next_one(
    client_at: Callable[..., RegistryClient], resolver: FakeResolver, registry: FakeRegistry
) -> None:
    port = port_of(registry)
    # The listen queue is full, so the kernel lets further connections wait.
    with socket.create_server(("127.0.0.3", port), backlog=0), socket.socket() as first:
        first.setblocking(False)
        first.connect_ex(("127.0.0.3", port))
        resolver.name("registry.example", ["127.0.0.3", WORLD])
        assert client_at(port).manifest(name(port)).raw


@pytest.mark.parametrize("target", ["10.0.0.7", "storage", "storage.internal", "0x7f000001"])
def test_behind_a_proxy_a_redirect_target_is_checked_by_its_name(
    client_at: Callable[..., RegistryClient], registry: FakeRegistry, target: str
) -> None:
    # The fake registry is its own proxy: it answers requests for any absolute URL.
    port = port_of(registry)
    registry.fail(Status(path="/blobs/", status=307, headers={"Location": f"http://{target}/x"}))
    with pytest.raises(errors.RegistryNotAllowed, match="private_addresses"):
        read(client_at(port, f'proxy = "http://{registry.host}"'), port)
    assert [request for request in registry.requests if "/x" in request.path] == []


def test_a_proxy_is_used_for_the_registry_and_its_redirect_targets(
    client_at: Callable[..., RegistryClient], registry: FakeRegistry
) -> None:
    port = port_of(registry)
    blob = f"http://storage.example/v2/team/app/blobs/{DIGEST}"
    signed = {"Location": f"{blob}?signed"}
    registry.fail(Status(path="/blobs/", status=307, times=1, headers=signed))
    assert read(client_at(port, f'proxy = "http://{registry.host}"'), port) == BLOB
    assert [request.path.partition("/v2/")[0] for request in registry.requests] == [
        f"http://registry.example:{port}",
        "http://storage.example",
    ]


def test_proxy_variables_of_the_environment_are_ignored(
    client_at: Callable[..., RegistryClient],
    monkeypatch: pytest.MonkeyPatch,
    resolver: FakeResolver,
    registry: FakeRegistry,
    inside: socket.socket,
) -> None:
    proxy = "http://{}:{}".format(*inside.getsockname())
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, proxy)
    port = port_of(registry)
    assert client_at(port).manifest(name(port)).raw
    assert is_untouched(inside)
