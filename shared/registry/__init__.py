"""HTTP to registries, and nothing else.

client.py       what may be asked: a manifest, a small blob, the body of a blob
bodies.py       small ones read whole and capped, blobs as they arrive
responses.py    what an answer means: Content-Range, Retry-After, errors typed
auth.py         challenges, Basic, Bearer tokens, cached
credentials.py  who we are, from the Docker client's configuration
hosts.py        where a registry stands, and how it is spoken to
transport.py    the one place that sends: time-outs, redirects, TLS
"""
