"""Every way in which a registry is known to misbehave, each with a name and a promise.

promise.py     what a client owes its user then
scene.py       the registry, another host, and who must not be asked
misbehaving.py one named fault: a value
challenges.py  what a 401 says, and the realm that it names
tokens.py      the token service
redirects.py   where blobs really stand
bodies.py      blobs that break off, fall silent or are not what they should be
framing.py     lengths, chunks, encodings
ranges.py      a download that goes on in the middle
documents.py   manifests and configs
indexes.py     indexes and tags
descriptors.py what they say of layers
statuses.py    statuses, headers, and what is no HTTP
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
