"""The limits that an operator sets for one registry host. They hold for the whole fleet."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """`connections`: how many may be open at the same time. None: no limit."""

    connections: int
    requests_per_second: float | None = None
    bandwidth_bytes_per_second: int | None = None
