"""Which addresses are public, private or forbidden."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.registry.transport.addresses import AddressScope, scope_of, scope_of_name


@pytest.mark.parametrize(
    "text",
    ["1.1.1.1", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1111"],
)
def test_internet_addresses_are_public(text: str) -> None:
    assert scope_of(ipaddress.ip_address(text)) is AddressScope.PUBLIC


@pytest.mark.parametrize(
    "text",
    [
        *(
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
        ),
        *("127.0.0.1", "127.9.9.9", "198.18.0.1", "192.0.2.1"),
        *("::1", "fc00::1", "fd12:3456::1", "fec0::1", "2001:db8::1", "64:ff9b:1::101:101"),
        *("::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:0a00:0001::", "2001:0:0:0:0:0:f5ff:fffe"),
    ],
)
def test_addresses_of_local_networks_are_private(text: str) -> None:
    assert scope_of(ipaddress.ip_address(text)) is AddressScope.PRIVATE


@pytest.mark.parametrize(
    "text",
    [
        *("169.254.169.254", "169.254.170.2", "169.254.0.1", "100.100.100.200", "168.63.129.16"),
        *("0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "fe80::1", "fe80::1%lo", "febf::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254"),
        *("::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b:1::a9fe:a9fe"),
        *("::ffff:0.0.0.0", "2002:a9fe:a9fe::", "::169.254.169.254", "4000::1", "100::1"),
    ],
)
def test_link_local_metadata_and_reserved_addresses_are_forbidden(text: str) -> None:
    assert scope_of(ipaddress.ip_address(text)) is AddressScope.NEVER


@given(st.ip_addresses(v=4))
def test_an_embedded_address_is_at_least_as_restricted_as_itself(
    inner: ipaddress.IPv4Address,
) -> None:
    for prefix in ("::ffff:0:0", "64:ff9b::", "64:ff9b:1::"):
        outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner))
        assert scope_of(outer) >= scope_of(inner)


@given(st.ip_addresses())
def test_no_address_is_less_restricted_than_by_the_standard_library(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    reach = scope_of(address)
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        assert reach is AddressScope.NEVER
    elif address.is_private and not getattr(address, "ipv4_mapped", None):
        assert reach is not AddressScope.PUBLIC


@pytest.mark.parametrize(
    ("name", "reach"),
    [
        ("registry.example.com", AddressScope.PUBLIC),
        ("1.1.1.1", AddressScope.PUBLIC),
        ("localhost", AddressScope.PRIVATE),
        ("any.localhost.", AddressScope.PRIVATE),
        ("intranet", AddressScope.PRIVATE),
        ("harbor.corp.internal", AddressScope.PRIVATE),
        ("Printer.LOCAL", AddressScope.PRIVATE),
        ("[::1]", AddressScope.PRIVATE),
        ("0x7f000001", AddressScope.PRIVATE),
        ("metadata.google.internal.", AddressScope.NEVER),
        ("METADATA", AddressScope.NEVER),
        ("2852039166", AddressScope.NEVER),
    ],
)
def test_a_name_is_classified_without_resolving_it(name: str, reach: AddressScope) -> None:
    assert scope_of_name(name) is reach
