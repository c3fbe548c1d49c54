"""A pull without Celery: the use cases in order, in this process, without waiting."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from shared.catalog.database.catalog import Catalog
from shared.catalog.layers import pull_layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle, listings
from shared.catalog.schema.migration import migrate
from shared.catalog.schema.revision import claim_volume, volume_id
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.pulls.accepting import accept_pull
from shared.pulls.context import Context
from shared.pulls.layers.fetching import fetch_layer
from shared.pulls.linking import link_image
from shared.pulls.outbox import Outbox
from shared.pulls.planning import Plan, plan_pull
from shared.pulls.steps.heartbeat import LeaseRenewer
from shared.pulls.steps.outcomes import TryAgain
from shared.rate_limiter import Limits, RateLimiter, connect
from shared.registry.client import RegistryClient
from shared.registry.request_permit import unlimited
from shared.settings import Settings
from shared.volume.identity import prepare
from shared.volume.store import Volume
from tests.support.secrecy import leaks_in, leaks_in_catalog, leaks_in_redis, listening
from tests.support.services import with_driver
from workers.health.node_health import NodeHealth
from workers.resources import node_probe, unpack_with

T = TypeVar("T")


@dataclass
class Driver:
    """Drives pulls. `delays`: the seconds that steps asked to wait before their next try."""

    resources: Context
    volume: Path
    delays: list[float] = field(default_factory=list)
    outbox: Outbox = field(default_factory=Outbox)
    sickness: NodeHealth = field(default_factory=NodeHealth)

    def pull(self, reference: str, pull_id: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Run a whole pull. Returns its receipt, or raises the error that the pull failed with."""
        pull_id = pull_id or str(uuid4())
        kwargs = {"reference": reference, "platform": "linux/amd64", **kwargs}
        plan = self.again(lambda: self.plan(pull_id, kwargs))
        open_layers = [layer.digest for layer in self.layers(pull_id) if not layer.stored]
        for digest in plan.missing if plan else open_layers:
            self.fetch(pull_id, digest)
        receipt = self.again(lambda: self.link(pull_id))
        assert receipt is not None
        return receipt

    def fetch(self, pull_id: str, digest: Digest) -> None:
        """Fetch one layer, with as many tries as the step asks for."""
        self.again(lambda: self.fetch_once(pull_id, digest))

    def fetch_once(self, pull_id: str, digest: Digest) -> None:
        """Try once to fetch one layer."""
        fetch_layer(self.resources, pull_id, digest, lambda _offset, _size: None, self.outbox)

    def plan(self, pull_id: str, kwargs: Mapping[str, Any], *args: Any) -> Plan | None:
        """Run the coordinator's two steps once."""
        if not accept_pull(self.resources, pull_id, args, kwargs, self.outbox):
            return None
        return plan_pull(self.resources, pull_id, self.outbox)

    def link(self, pull_id: str) -> dict[str, Any] | None:
        """Run the last step once."""
        return link_image(self.resources, pull_id, self.outbox)

    def again(self, step: Callable[[], T]) -> T:
        """Run a step until it does not ask for another try."""
        while True:
            try:
                return step()
            except TryAgain as again:
                if again.cause is None:
                    raise
                self.delays.append(again.delay_seconds)

    def row(self, pull_id: str) -> Pull:
        """The current row of the pull."""
        with self.resources.catalog.begin() as tx:
            pull = lifecycle.get(tx, pull_id)
        assert pull is not None
        return pull

    def newest(self) -> Pull:
        """The pull that was recorded last."""
        with self.resources.catalog.begin() as tx:
            return listings.recent(tx)[0]

    def layers(self, pull_id: str) -> list[PullLayer]:
        """The layers of the pull."""
        registry = Reference.parse(self.row(pull_id).reference).registry
        with self.resources.catalog.begin() as tx:
            return pull_layers.of_pull(tx, pull_id, registry)

    def blob(self, digest: str) -> Path:
        """The path of a blob."""
        algorithm, _, encoded = digest.partition(":")
        return self.volume / "blobs" / algorithm / encoded

    def blobs(self) -> dict[str, bytes]:
        """The bytes of every file under blobs/, by the digest in its name."""
        files = (self.volume / "blobs").glob("*/*")
        return {f"{path.parent.name}:{path.name}": path.read_bytes() for path in files}

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows that a query returns."""
        with self.resources.catalog.begin() as tx:
            return [tuple(row) for row in tx.exec_driver_sql(statement)]

    def change(self, statement: str) -> None:
        """Change a row directly in the database."""
        with self.resources.catalog.begin() as tx:
            tx.exec_driver_sql(statement)


@contextmanager
def driving(
    url: str, volume: Path, redis_url: str | None = None, **settings: Any
) -> Iterator[Driver]:
    """A driver on a prepared database and volume. It has a rate limiter if a Redis URL is given;
    otherwise no request is held back.
    """
    migrate(with_driver(url))
    catalog = Catalog(with_driver(url))
    with catalog.begin() as tx:
        identity = prepare(volume, volume_id(tx))
        claim_volume(tx, identity)
    chosen = Settings.read(broker_url="redis://unused", database_url=url, volume=volume, **settings)
    renewer = LeaseRenewer(catalog, chosen, lambda: False)
    rate_limiter = RateLimiter(
        connect(redis_url) if redis_url else None, Limits(chosen.registry_connections)
    )
    registry = RegistryClient(chosen, rate_limiter.acquire if redis_url else unlimited)
    opened, sickness = Volume(volume, identity), NodeHealth()
    resources = Context(
        chosen,
        catalog,
        opened,
        registry,
        renewer,
        rate_limiter,
        node_probe(opened, sickness),
        unpack=unpack_with(chosen),
    )
    try:
        with listening() as lines:
            yield Driver(resources, volume, sickness=sickness)
        leaks = leaks_in("\n".join(lines), "Log: ") + leaks_in_catalog(url)
        leaks += leaks_in_redis(redis_url) if redis_url else []
        assert not leaks, leaks
    finally:
        resources.close()
