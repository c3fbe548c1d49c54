"""HTTP to registries, and nothing else.

client.py       what may be asked: a manifest, a small blob, the body of a blob
bodies.py       small ones read whole and capped, blobs as they arrive
responses.py    what an answer means: Content-Range, Retry-After, errors typed
auth.py         challenges, Basic, Bearer tokens, cached
credentials.py  who we are, from the Docker client's configuration
hosts.py        where a registry and its mirrors stand, and how they are spoken to
registries_file.py  what an operator says of them
urls.py         which web addresses are plain, and which lead to the same place
transport.py    the one place that sends: time-outs, redirects, TLS
"""
