"""HTTP to registries.

What the rest of towline calls:

    client              the entry point: a manifest, a small blob, the source of a blob
    blobs               the hosts that may serve one blob, and ranges of it
    bodies              response bodies: small ones read in full, blobs block by block

One request to one host:

    routing             several hosts for one thing; which failure to report
    asking              one request: rate limiter, authentication, expired redirects
    gate                the interface of the rate limiter
    responses           what a response means: Content-Range, Retry-After, typed errors
    explanations        the registry's own error message, without secrets
    rate_limits         the rate limit headers

Authentication:

    auth                answers challenges; keeps and renews what was accepted
    challenges          parses `WWW-Authenticate`
    tokens              fetches a Bearer token from a token service
    credentials         finds a user name and a secret: registries file, Docker client, helpers
    docker_config       reads the Docker client's config.json

Configuration of hosts:

    hosts               the URL of a registry and its mirrors, in the order of use
    registries_file     `TOWLINE_REGISTRIES_FILE`, parsed and checked
    urls                URLs without user information; origins; URLs for messages

Connections:

    transport           sends every request: time-outs, redirects, which addresses are allowed
    trust               the CA and the client certificate for one request
    connections         connection pools, separate for public and private addresses
    heads               a deadline for the status line and the headers
    dialing             resolves a name, checks the addresses and connects
    addresses           which addresses are public, private or forbidden
    failures            the typed error of a request without a response
"""
