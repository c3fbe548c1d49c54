"""Classifies addresses as public, private or forbidden.

Pure: no name is resolved here. If an IPv6 address embeds an IPv4 address, the packets reach the
embedded one, so that one is classified, too.
Source: IANA's special-purpose address registries; RFC 6052 and RFC 8215 for NAT64.
"""

import ipaddress
import socket
from enum import IntEnum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressScope(IntEnum):
    """The kind of an address. A larger value is more dangerous, so kinds can be compared.

    PUBLIC: on the internet. PRIVATE: in this machine's network, or the machine itself. NEVER:
    link-local, metadata or reserved; towline does not connect to it for any registry.
    """

    PUBLIC = 0
    PRIVATE = 1
    NEVER = 2


# Metadata services, which hand out a cloud machine's credentials, outside of link-local ranges.
_METADATA = (
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::254/128",  # Amazon, and its pod identities
    "fd00:ec2::23/128",
    "fd20:ce::254/128",  # Google
    "fd00:c1::a9fe:a9fe/128",  # Oracle
    "fd00:42::42/128",  # Scaleway
)
_METADATA_NAMES = {
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
}
_PRIVATE = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"),
    # For protocols, documentation and benchmarks: not routed on the internet, so any use of them
    # is local.
    *("192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15"),
    *("::1/128", "fc00::/7", "fec0::/10", "64:ff9b:1::/48"),
    *("2001::/23", "2001:db8::/32", "3fff::/20"),
)
# "This host", link-local, multicast and reserved.
_NEVER = ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "fe80::/10", "ff00::/8")
_NAT64 = tuple(ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48"))
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


_NEVER_NETWORKS = _networks(*_METADATA, *_NEVER)
_PRIVATE_NETWORKS = _networks(*_PRIVATE)


def scope_of(address: Address) -> AddressScope:
    """The scope of an address. If it embeds an IPv4 address (NAT64, 6to4), the more restricted
    scope of the two.
    """
    inner = _inner(address)
    if inner is None:
        return _scope_alone(address)
    # The prefix alone decides about the outer address.
    outer = AddressScope.PRIVATE if _within(address, _PRIVATE_NETWORKS) else AddressScope.PUBLIC
    return max(outer, scope_of(inner))


def scope_of_name(name: str) -> AddressScope:
    """The scope of a host name without resolving it: PUBLIC unless the name shows otherwise."""
    name = name.rstrip(".").lower()
    address = literal(name)
    if address is not None:
        return scope_of(address)
    if name in _METADATA_NAMES:
        return AddressScope.NEVER
    is_private = "." not in name or name.endswith(_PRIVATE_SUFFIXES)
    return AddressScope.PRIVATE if is_private else AddressScope.PUBLIC


def literal(name: str) -> Address | None:
    """The address that `name` is written as, None for a host name."""
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        try:
            # The resolver also accepts 0xa9fea9fe, 2852039166 and 169.254.43518 as addresses.
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None


def _scope_alone(address: Address) -> AddressScope:
    if _within(address, _NEVER_NETWORKS):
        return AddressScope.NEVER
    if _within(address, _PRIVATE_NETWORKS):
        return AddressScope.PRIVATE
    is_known = address.version == 4 or address in _GLOBAL_IPV6
    return AddressScope.PUBLIC if is_known else AddressScope.NEVER


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _inner(address: Address) -> ipaddress.IPv4Address | None:
    """The embedded IPv4 address that packets reach (mapped, NAT64, 6to4, Teredo), or None."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
