"""Count how many bytes of each layer came over the network, for the receipt."""

import threading
from collections import Counter
from collections.abc import Sequence

from shared.catalog.database.catalog import Catalog
from shared.catalog.layers import pull_layers
from shared.oci.digest import Digest
from shared.pulls.steps.leased_layer import LeasedLayer


class FetchedBytes:
    """Records in the catalog how many bytes the downloads of this process have fetched."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        # A download may end while the renewer records it: its bytes must not be counted twice.
        self._lock = threading.Lock()

    def record(self, downloads: Sequence[LeasedLayer]) -> None:
        """Record the bytes fetched since the last call. Raises CatalogUnavailable."""
        with self._lock:
            totals = [(leased.progress, leased.progress.fetched) for leased in downloads]
            new: Counter[tuple[str, Digest]] = Counter()
            for leased, (progress, total) in zip(downloads, totals, strict=True):
                new[leased.pull_id, leased.digest] += total - progress.recorded
            if any(new.values()):
                with self._catalog.begin() as tx:
                    pull_layers.add_bytes_fetched(tx, new)
            for progress, total in totals:
                progress.recorded = total

    def take_unrecorded(self, leased: LeasedLayer) -> int:
        """Return the bytes that are not recorded yet, and count them as recorded: the caller must
        record them with the stored layer.
        """
        progress = leased.progress
        with self._lock:
            new = progress.fetched - progress.recorded
            progress.recorded += new
            return new
