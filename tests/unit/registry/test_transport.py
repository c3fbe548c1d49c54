"""Requests that are refused before anything is sent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import RegistryNotAllowed
from shared.registry.hosts import Hosts
from shared.registry.transport.transport import Transport


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport(1, 1)
    yield transport
    transport.close()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://storage.example/layer",
        "file:///etc/passwd",
        "https://user:s3cret@storage.example/layer",
        "https://@storage.example/layer",
        "https://storage.example:99999/layer",
        "/layer",
        "",
    ],
)
def test_an_unusable_url_is_refused(transport: Transport, url: str) -> None:
    with pytest.raises(RegistryNotAllowed, match="unusable URL") as caught:
        transport.send("GET", url, {}, Hosts(None).host("r.example"))
    assert "s3cret" not in str(caught.value)


def test_a_registry_with_https_may_not_name_http_urls(transport: Transport) -> None:
    with pytest.raises(RegistryNotAllowed, match="unencrypted"):
        transport.send("GET", "http://storage.example/x", {}, Hosts(None).host("r.example"))


@pytest.mark.parametrize("name", ["169.254.169.254", "[fe80::1]", "metadata.google.internal", "0"])
@pytest.mark.parametrize("more", ["", "private_addresses = true", 'proxy = "http://10.0.0.1:1"'])
def test_no_setting_allows_a_metadata_service(
    transport: Transport, tmp_path: Path, name: str, more: str
) -> None:
    file = tmp_path / "registries.toml"
    file.write_text(f'[registries."r.example"]\n{more}\n')
    with pytest.raises(RegistryNotAllowed, match="never connects"):
        transport.send("GET", f"https://{name}/x", {}, Hosts(file).host("r.example"))
