"""The hosts that may serve one blob, and the requests for ranges of it.

The hosts of the route are tried in their order, then the URLs in the descriptor (foreign layers),
which get no credentials. A host that fails is skipped for this request. A host whose bytes turned
out to be unusable is excluded for the rest of the download (`exclude`).

If a registry redirects to a signed URL, later ranges go to that URL directly until it expires.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.errors import BlobUnknown, SizeMismatch, TowlineError
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.registry.bodies import BlobBody
from shared.registry.content_range import is_requested_range, states_other_size, unsatisfied_total
from shared.registry.host_requests import REFUSED_SIGNATURES, OpenResponse, RequestSender
from shared.registry.hosts import Host
from shared.registry.mirrors import most_useful_error
from shared.registry.responses import check_length, error_of, refuse_encoding
from shared.registry.transport.urls import same_origin

# The statuses of a redirect target whose URL has expired.
_EXPIRED = REFUSED_SIGNATURES | {404, 410}
# How long a host counts as one without ranges. Not for ever: a pull-through cache ignores ranges
# only until it has stored the whole blob (distribution#4667).
_WITHOUT_RANGES_SECONDS = 600.0


class RangeSupport:
    """Remembers, for this process, which hosts have answered a Range with something else."""

    def __init__(self) -> None:
        self._refused_at: dict[str, float] = {}

    def refused(self, host: str) -> None:
        """The host has just answered a Range without the range."""
        self._refused_at[host] = time.monotonic()

    def expected(self, host: str) -> bool:
        """Whether the host is expected to serve ranges: True unless it refused one recently."""
        refused_at = self._refused_at.get(host)
        return refused_at is None or time.monotonic() - refused_at > _WITHOUT_RANGES_SECONDS


@dataclass(frozen=True, slots=True)
class _Place:
    """One place to fetch the blob from: `host`, or if set `url`, which a descriptor names."""

    host: Host
    url: str | None = None


class BlobSource:
    """The places that may serve one blob of `size` bytes, for the threads of one download.

    `patience_seconds`: the longest time that `open` may take until the first byte.
    """

    def __init__(
        self,
        sender: RequestSender,
        ranges: RangeSupport,
        route: Sequence[Host],
        reference: Reference,
        digest: Digest,
        size: int,
        urls: Sequence[str] = (),
        patience_seconds: float = 60.0,
    ) -> None:
        self.patience_seconds = patience_seconds
        self._sender = sender
        self._ranges = ranges
        self._reference = reference
        self._digest = digest
        self._size = size
        self._name = f"{digest} of {reference.name}"
        self._lock = threading.Lock()
        self._places = [_Place(host) for host in route] + [_Place(route[-1], url) for url in urls]
        # The last redirect target of each place.
        self._targets: dict[_Place, str] = {}
        # The places that have served bytes since the last `exclude`, with one body of each.
        self._served: dict[_Place, BlobBody] = {}

    @property
    def serves_ranges(self) -> bool:
        """Whether the first place is expected to serve ranges, so that several may be requested."""
        return self._ranges.expected(self._places[0].host.registry)

    def open(self, first: int = 0, end: int | None = None) -> BlobBody:
        """The bytes from `first` to `end`, exclusive (None: the blob's size).

        The body may be the whole blob instead, if no place serves ranges: `BlobBody.first` and
        `.end` tell. Raises the most useful error of all places, among them SizeMismatch if a length
        in the headers contradicts the descriptor.
        """
        errors: list[tuple[Host, TowlineError]] = []
        for place in self._places:
            try:
                body = self._open(place, first, self._size if end is None else end)
            except TowlineError as error:
                errors.append((place.host, error))
            else:
                with self._lock:
                    self._served[place] = body
                return body
        raise most_useful_error(errors)

    def exclude(self, body: BlobBody | None = None) -> bool:
        """Exclude the places whose bytes were unusable. Returns whether another place is left.

        With `body`, which ended early without progress, only the place of that body is excluded.
        Without it, the complete blob had a wrong digest. Then the mirrors that served bytes of it
        are excluded or, if there are none, every place that did. Mirrors are marked as unreachable
        for the whole fleet.

        If no place would be left, nothing is excluded and the result is False.
        """
        with self._lock:
            served, self._served = self._served, {}
            if body is not None:
                served = {
                    place: served_body
                    for place, served_body in served.items()
                    if place == body.place
                }
            mirrors = {place for place in served if place.host.upstream and place.url is None}
            # A mirror is more likely to serve wrong bytes than the registry itself.
            excluded = mirrors or set(served)
            left = [place for place in self._places if place not in excluded]
            if not excluded or not left:
                return False
            self._places = left
        for place in mirrors:
            served[place].distrust()
        return True

    def _open(self, place: _Place, first: int, end: int) -> BlobBody:
        if (first, end) != (0, self._size):
            ranged = self._open_range(place, first, end)
            if ranged is not None:
                return ranged
        # No Range header for the whole blob: some registries answer 400 to one (containerd#11953).
        opened = self._send(place, {})
        try:
            if opened.response.status_code != 200:
                raise error_of(opened.response, f"The blob {self._name}", missing=BlobUnknown)
            return self._whole(place, opened)
        except BaseException:
            opened.close()
            raise

    def _open_range(self, place: _Place, first: int, end: int) -> BlobBody | None:
        """The body of a range; None if the response is unusable but a request without a Range may
        work.
        """
        opened = self._send(place, {"Range": f"bytes={first}-{end - 1}"})
        response = opened.response
        try:
            if response.status_code == 206 and is_requested_range(response, first, end, self._size):
                refuse_encoding(response, f"The blob {self._name}", end - first)
                return BlobBody(opened, first, end, self._name, place)
            if response.status_code == 200:
                whole = self._whole(place, opened)
                self._ignores_ranges(place)
                return whole
            if response.status_code == 416:
                stated = unsatisfied_total(response.headers.get("Content-Range", ""))
                if stated is not None and stated != self._size:
                    raise SizeMismatch(
                        f"The blob {self._name} has {stated} bytes instead of {self._size}."
                    )
            elif response.status_code not in {206, 400, 501}:
                raise error_of(response, f"The blob {self._name}", missing=BlobUnknown)
        except BaseException:
            opened.close()
            raise
        opened.discard()
        # A 206 that states another size than the manifest says nothing about ranges: the manifest
        # may be wrong.
        if response.status_code != 206 or not states_other_size(response, self._size):
            self._ignores_ranges(place)
        return None

    def _ignores_ranges(self, place: _Place) -> None:
        # A URL in a document leads to another server than the registry.
        if place.url is None:
            self._ranges.refused(place.host.registry)

    def _whole(self, place: _Place, opened: OpenResponse) -> BlobBody:
        refuse_encoding(opened.response, f"The blob {self._name}", self._size)
        check_length(opened.response, self._size, f"The blob {self._name}")
        return BlobBody(opened, 0, self._size, self._name, place)

    def _send(self, place: _Place, headers: Mapping[str, str]) -> OpenResponse:
        if place.url is not None:
            return self._sender.send_elsewhere(place.host, place.url, headers)
        target = self._targets.get(place)
        if target is not None:
            opened = self._sender.send_to_target(place.host, target, headers)
            if opened.response.status_code not in _EXPIRED:
                return opened
            # The URL has expired: ask the registry, which redirects to a new one.
            opened.discard()
            with self._lock:
                if self._targets.get(place) == target:
                    del self._targets[place]
        path = f"blobs/{self._digest}"
        opened = self._sender.send(place.host, self._reference.repository, path, headers)
        if opened.response.ok and not same_origin(place.host.base, opened.response.url):
            self._targets[place] = opened.response.url
        return opened
