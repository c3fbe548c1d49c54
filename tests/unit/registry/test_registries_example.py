"""The example of a registries file is one."""

from pathlib import Path

from shared.registry.hosts import Hosts

EXAMPLE = Path(__file__).parents[3] / "deploy" / "registries.toml"


def test_the_example_can_be_used_as_it_is() -> None:
    hosts = Hosts(EXAMPLE)
    assert hosts.host("registry.example.com").entry.username == "ci"
    assert hosts.host("registry.internal:5000").verify == "/etc/towline/ca.pem"
    assert hosts.host("lab:5000").base == "http://lab:5000"
