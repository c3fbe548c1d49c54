"""HTTP to registries, and nothing else.

client.py       what may be asked: a manifest, a small blob, the source of a blob
blobs.py        who may serve one blob: hosts and foreign places, one after another
bodies.py       small bodies read whole and capped, blobs as they arrive
routing.py      several hosts for one thing, and the most useful failure
asking.py       one request to one host: authenticated, through the gate
gate.py         the gate: whether a host may be asked now, and what came of it
responses.py    what an answer means: Content-Range, Retry-After, errors typed
auth.py         what answers a challenge: kept, renewed, forgotten
tokens.py       a Bearer token from the service that a challenge names
credentials.py  who we are, from the registries file and the Docker client's configuration
docker_config.py  what that says of a registry, where there is one
hosts.py        where a registry and its mirrors stand, and how they are spoken to
registries_file.py  what an operator says of them
urls.py         which web addresses are plain, and which lead to the same place
transport.py    the one place that sends: time-outs, redirects, who may be asked
trust.py        whom TLS trusts, and who we are on it
connections.py  kept connections, apart by how far they may reach
heads.py        the head of an answer, in time
dialing.py      a name resolved, judged and connected to in one go
addresses.py    which addresses are the world's, which this network's, which nobody's
failures.py     what a request that got no answer means
"""
