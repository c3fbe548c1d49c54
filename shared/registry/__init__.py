"""HTTP to registries.

What the rest of towline calls:

    client        the entry point: a manifest, a small blob, the source of a blob
    blob_sources  the hosts that may serve one blob, and ranges of it
    bodies        response bodies: small ones read in full, blobs block by block

One request to one host:

    mirrors             several hosts for one thing; which failure to report
    host_requests       one request: rate limiter, authentication, expired redirects; reports a 429
    request_permit      the permit that a request needs from the rate limiter
    responses           what a response means: typed errors, Retry-After; refused headers
    content_range       which bytes a response brings
    error_bodies        the registry's own error message, without secrets
    rate_limit_headers  how many requests are left, as registries state it

Configuration of hosts:

    hosts            the URL of a registry and its mirrors, in the order of use
    registries_file  `TOWLINE_REGISTRIES_FILE`, parsed and checked

Below:

    auth       authentication: challenges, tokens, credentials
    transport  connections: addresses, certificates, deadlines
"""
