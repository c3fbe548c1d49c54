"""The pulls that are under way during a fault, and waiting until they have ended by themselves."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.faults.fleet import FaultyFleet
from tests.fakes.faults import Throttle
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.waiting import wait_until

PLATFORM = "linux/amd64"
LAYER_BYTES = 2_500_000
# Two and a half seconds per layer.
PACE = Throttle(bytes_per_second=1_000_000)

# Everything ends within this time after the last fault.
SETTLED_SECONDS = 60


@dataclass
class Load:
    """Pulls of images in the registry.

    `images`: the digests of each image's layers, by repository. `sizes`: the size of each distinct
    layer, by digest. `pulls`: the ids of all pulls that were sent.
    """

    fleet: FaultyFleet
    registry: FakeRegistry
    images: dict[str, list[str]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    pulls: list[str] = field(default_factory=list)

    def add(self, repository: str, layers: Sequence[bytes]) -> None:
        """Put one more image into the registry."""
        self.images[repository] = [digest_of(raw) for raw in layers]
        self.sizes |= zip(self.images[repository], map(len, layers), strict=True)
        self.registry.put_image(repository, "1", layers)

    def reference(self, repository: str) -> str:
        """The reference of this image."""
        return f"{self.registry.host}/{repository}:1"

    def ask(self, *repositories: str, **more: Any) -> list[str]:
        """Send a pull of each of these images by name. The pulls' ids."""
        with self.fleet.client() as client:
            sent = [
                client.pull(reference=self.reference(repository), platform=PLATFORM, **more).id
                for repository in repositories
            ]
        self.pulls += sent
        return sent

    def send(self, *repositories: str, **more: Any) -> list[str]:
        """Send pulls of these images, and wait until all are recorded. Their ids."""
        sent = self.ask(*repositories, **more)
        self.recorded()
        return sent

    def detach(self, *repositories: str) -> list[str]:
        """Send pulls with `towline pull`, which writes the rows itself. Their ids."""
        references = map(self.reference, repositories)
        result = self.fleet.towline("pull", "--detach", "--platform", PLATFORM, *references)
        assert result.returncode == 0, result.stderr
        sent = result.stdout.split()
        self.pulls += sent
        return sent

    def recorded(self) -> None:
        """Wait until all pulls are recorded."""
        count = "SELECT count(*) FROM pulls"
        wait_until(lambda: self.fleet.sql(count) == [(len(self.pulls),)], timeout=30)

    def under_way(self, layers: int = 2) -> None:
        """Wait until the leases of this many layers show bytes on the volume."""
        reached = "SELECT 1 FROM leases WHERE bytes_done > 0 AND owner IS NOT NULL"
        wait_until(lambda: len(self.fleet.sql(reached)) >= layers, timeout=30)

    def settle(self, seconds: float = SETTLED_SECONDS) -> None:
        """Wait until every pull has ended and is answered."""
        unanswered = "SELECT 1 FROM pulls WHERE answered_at IS NULL LIMIT 1"
        wait_until(lambda: not self.fleet.sql(unanswered), timeout=seconds)

    def unique_bytes(self) -> int:
        """Bytes of the distinct layers of all images that were pulled."""
        pulled = {reference for (reference,) in self.fleet.sql("SELECT reference FROM pulls")}
        images = [
            digests for name, digests in self.images.items() if self.reference(name) in pulled
        ]
        return sum(self.sizes[digest] for digest in set().union(*images))

    def handed_out(self) -> int:
        """Bytes of these layers that the registry has sent."""
        return sum(
            request.sent
            for request in self.registry.asked("/blobs/")
            if request.path.rpartition("/")[2] in self.sizes
        )


def standard_load(fleet: FaultyFleet, registry: FakeRegistry) -> Load:
    """Three images that share their base. Each layer takes a few seconds."""
    registry.fail(PACE)
    load = Load(fleet, registry)
    base = os.urandom(LAYER_BYTES)
    for repository in "abc":
        load.add(repository, [base, os.urandom(LAYER_BYTES)])
    return load
