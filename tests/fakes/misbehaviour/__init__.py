"""The known faults of registries, each with a name and with what towline promises for it.

promise         what a client must do when it meets a fault
scene           the registry, a second host, and the hosts that must get no requests
misbehaving     one named fault, as a value
challenges      the challenge of a 401, and its realm
tokens          the token service
redirects       redirects of blobs and manifests
bodies          bodies that are cut, stall or have wrong bytes
framing         lengths, chunks, encodings
ranges          a download that is resumed by a range
documents       manifests and configs
indexes         indexes and tags
descriptors     the descriptors of layers in a manifest
statuses        statuses, headers, and responses that are not HTTP
"""

from tests.fakes.misbehaviour import (
    bodies,
    challenges,
    descriptors,
    documents,
    framing,
    indexes,
    ranges,
    redirects,
    statuses,
    tokens,
)
from tests.fakes.misbehaviour.misbehaving import Misbehaviour

__all__ = ["BY_NAME", "GROUPS", "Misbehaviour"]

GROUPS: dict[str, tuple[Misbehaviour, ...]] = {
    "Authentication": (*challenges.ALL, *tokens.ALL),
    "Redirects": redirects.ALL,
    "Bodies": (*bodies.ALL, *framing.ALL),
    "Ranges": ranges.ALL,
    "Manifests": (*documents.ALL, *indexes.ALL, *descriptors.ALL),
    "Answers": statuses.ALL,
}

BY_NAME = {fault.name: fault for group in GROUPS.values() for fault in group}
