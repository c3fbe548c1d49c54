"""Where a registry may send us, and that a name which changes its mind leads nowhere.

Here 127.0.0.1 stands for the world and 127.0.0.2 for an address of this network.
"""

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import errors
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.registry import addresses
from shared.registry.client import RegistryClient
from shared.settings import Settings
from tests.fakes.faults import Redirect, Status
from tests.fakes.registry import FakeRegistry
from tests.fakes.resolver import FakeResolver
from tests.secrecy import leaks_in

pytestmark = pytest.mark.integration

WORLD, INSIDE, METADATA = "127.0.0.1", "127.0.0.2", "169.254.169.254"
BLOB = os.urandom(10_000)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> FakeResolver:
    private = (ipaddress.ip_network(INSIDE),)
    monkeypatch.setattr(addresses, "_PRIVATE_NETWORKS", private)
    resolver = FakeResolver()
    resolver.install(monkeypatch)
    resolver.name("registry.example", [WORLD])
    return resolver


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.put_image("team/app", "1", [BLOB])
        yield registry


@pytest.fixture
def storage() -> Iterator[FakeRegistry]:
    with FakeRegistry() as storage:
        storage.put_blob(BLOB)
        yield storage


@pytest.fixture
def inside() -> Iterator[socket.socket]:
    """A service of this network, which nobody of the outside may reach."""
    with socket.create_server((INSIDE, 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
def client_of(tmp_path: Path) -> Iterator[Callable[..., RegistryClient]]:
    """Of a client for which `registry.example` and the port of a registry are plain http."""
    clients = []

    def make(port: int, *lines: str, **settings: Any) -> RegistryClient:
        file = tmp_path / "registries.toml"
        table = f'[registries."registry.example:{port}"]\nplain_http = true\n'
        file.write_text(table + "\n".join(lines))
        read = Settings.read(stall_timeout_seconds=2, registries_file=file, **settings)
        clients.append(RegistryClient(read))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def port_of(registry: FakeRegistry) -> int:
    return int(registry.host.rpartition(":")[2])


def name(port: int) -> Reference:
    return Reference.parse(f"registry.example:{port}/team/app:1")


def read(client: RegistryClient, port: int) -> bytes:
    with client.open_blob(name(port), Digest.of(BLOB), len(BLOB)) as body:
        return b"".join(body.blocks())


def is_untouched(listening: socket.socket) -> bool:
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return True
    return False


def test_a_public_registry_cannot_redirect_into_this_network(
    client_of: Callable[..., RegistryClient],
    resolver: FakeResolver,
    registry: FakeRegistry,
    inside: socket.socket,
) -> None:
    port = port_of(registry)
    resolver.name("storage.example", [INSIDE])
    registry.fail(Redirect(host=f"storage.example:{inside.getsockname()[1]}"))
    with pytest.raises(errors.RegistryNotAllowed, match="private_addresses = true") as caught:
        read(client_of(port), port)
    assert "storage.example" in str(caught.value)
    assert leaks_in(str(caught.value)) == []
    assert is_untouched(inside)


def test_a_public_registry_cannot_name_a_realm_in_this_network(
    client_of: Callable[..., RegistryClient],
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
        client_of(port).manifest(name(port))
    assert is_untouched(inside)


@pytest.mark.parametrize("forbidden", [INSIDE, METADATA])
def test_a_name_that_rebinds_between_two_looks_is_looked_up_once(
    client_of: Callable[..., RegistryClient],
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
        client = client_of(port)
        assert read(client, port) == BLOB
        assert resolver.asked.count("storage.example") == 1
        # The kept connection is of the judged address; a new one is judged again, and refused.
        assert read(client, port) == BLOB
        client.close()
        with pytest.raises(errors.RegistryNotAllowed):
            read(client, port)
        assert is_untouched(listening)


@pytest.mark.parametrize("forbidden", [INSIDE, METADATA])
def test_of_several_addresses_only_the_allowed_are_connected_to(
    client_of: Callable[..., RegistryClient],
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
        assert read(client_of(port), port) == BLOB
        # A dead one among the allowed does not lead to the others.
        resolver.name("storage.example", ["127.0.0.3", forbidden])
        with pytest.raises(errors.RegistryUnavailable):
            read(client_of(port), port)
        assert is_untouched(listening)


def test_a_kept_connection_into_this_network_is_not_found_by_a_strangers_redirect(
    client_of: Callable[..., RegistryClient],
    resolver: FakeResolver,
    registry: FakeRegistry,
    storage: FakeRegistry,
) -> None:
    port, other = port_of(registry), port_of(storage)
    storage.put_image("team/app", "1", [BLOB])
    resolver.name("inside.example", [WORLD])
    client = client_of(port, f'[registries."inside.example:{other}"]', "plain_http = true")
    # Given that somebody pulls from the registry of this network itself:
    client.manifest(Reference.parse(f"inside.example:{other}/team/app:1"))
    seen = len(storage.requests)
    resolver.name("inside.example", [INSIDE])
    registry.fail(Redirect(host=f"inside.example:{other}"))
    with pytest.raises(errors.RegistryNotAllowed):
        read(client, port)
    assert len(storage.requests) == seen


def test_a_registry_of_this_network_may_send_us_within_it(
    client_of: Callable[..., RegistryClient],
    monkeypatch: pytest.MonkeyPatch,
    resolver: FakeResolver,
    registry: FakeRegistry,
    storage: FakeRegistry,
) -> None:
    monkeypatch.setattr(addresses, "_PRIVATE_NETWORKS", (ipaddress.ip_network(WORLD),))
    port = port_of(registry)
    resolver.name("storage.example", [WORLD])
    registry.fail(Redirect(host=f"storage.example:{port_of(storage)}"))
    assert read(client_of(port), port) == BLOB


def test_a_registry_of_this_network_is_not_led_to_a_metadata_service(
    client_of: Callable[..., RegistryClient],
    monkeypatch: pytest.MonkeyPatch,
    resolver: FakeResolver,
    registry: FakeRegistry,
) -> None:
    monkeypatch.setattr(addresses, "_PRIVATE_NETWORKS", (ipaddress.ip_network(WORLD),))
    port = port_of(registry)
    resolver.name("storage.example", [METADATA])
    registry.fail(Redirect(host="storage.example"))
    with pytest.raises(errors.RegistryNotAllowed, match="never asked"):
        read(client_of(port), port)


def test_private_addresses_may_be_allowed(
    client_of: Callable[..., RegistryClient],
    monkeypatch: pytest.MonkeyPatch,
    resolver: FakeResolver,
    registry: FakeRegistry,
    inside: socket.socket,
) -> None:
    port = port_of(registry)
    resolver.name("storage.example", [INSIDE])
    registry.fail(Redirect(host=f"storage.example:{inside.getsockname()[1]}"))
    # It is reached, and stays silent.
    with pytest.raises(errors.RegistryUnavailable, match="in time"):
        read(client_of(port, "private_addresses = true"), port)
    assert not is_untouched(inside)


def test_a_registry_itself_is_never_a_metadata_service(
    client_of: Callable[..., RegistryClient], resolver: FakeResolver
) -> None:
    resolver.name("registry.example", [METADATA])
    with pytest.raises(errors.RegistryNotAllowed, match="never asked"):
        client_of(80).manifest(name(80))


def test_a_dead_address_does_not_hide_the_next_one(
    client_of: Callable[..., RegistryClient], resolver: FakeResolver, registry: FakeRegistry
) -> None:
    port = port_of(registry)
    resolver.name("registry.example", ["::1", "127.0.0.3", WORLD])
    assert client_of(port).manifest(name(port)).raw


def test_a_silent_address_does_not_use_up_the_time_of_the_next_one(
    client_of: Callable[..., RegistryClient], resolver: FakeResolver, registry: FakeRegistry
) -> None:
    port = port_of(registry)
    # A queue that is full: the kernel lets further connections wait.
    with socket.create_server(("127.0.0.3", port), backlog=0), socket.socket() as first:
        first.setblocking(False)
        first.connect_ex(("127.0.0.3", port))
        resolver.name("registry.example", ["127.0.0.3", WORLD])
        assert client_of(port).manifest(name(port)).raw


@pytest.mark.parametrize("target", ["10.0.0.7", "storage", "storage.internal", "0x7f000001"])
def test_behind_a_proxy_a_guest_is_judged_by_its_name(
    client_of: Callable[..., RegistryClient], registry: FakeRegistry, target: str
) -> None:
    # The fake is its own proxy: it answers whatever absolute URL it is asked for.
    port = port_of(registry)
    registry.fail(Status(path="/blobs/", status=307, headers={"Location": f"http://{target}/x"}))
    with pytest.raises(errors.RegistryNotAllowed, match="private_addresses"):
        read(client_of(port, f'proxy = "http://{registry.host}"'), port)
    assert [one for one in registry.requests if "/x" in one.path] == []


def test_a_proxy_leads_to_the_registry_and_to_its_guests(
    client_of: Callable[..., RegistryClient], registry: FakeRegistry
) -> None:
    port = port_of(registry)
    blob = f"http://storage.example/v2/team/app/blobs/{Digest.of(BLOB)}"
    signed = {"Location": f"{blob}?signed"}
    registry.fail(Status(path="/blobs/", status=307, times=1, headers=signed))
    assert read(client_of(port, f'proxy = "http://{registry.host}"'), port) == BLOB
    assert [one.path.partition("/v2/")[0] for one in registry.requests] == [
        f"http://registry.example:{port}",
        "http://storage.example",
    ]


def test_a_proxy_of_the_environment_is_not_read(
    client_of: Callable[..., RegistryClient],
    monkeypatch: pytest.MonkeyPatch,
    resolver: FakeResolver,
    registry: FakeRegistry,
    inside: socket.socket,
) -> None:
    proxy = "http://{}:{}".format(*inside.getsockname())
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, proxy)
    port = port_of(registry)
    assert client_of(port).manifest(name(port)).raw
    assert is_untouched(inside)
