"""Small real servers for tests: a registry that speaks HTTP on a socket, and Debian's own.

registry            the fake registry: images, a request log, faults
registry_handler    answers one request of it
registry_auth       its authentication, with a token service
answers             one response, and how it is sent
faults              the faults that a registry can be told to have
front_ends          slow, distant or overloaded front ends, as faults
misbehaviour        the known faults of registries, each with a name and a promise
serving             the command line that serves a fake registry
docker_registry     Debian's `docker-registry`
token_issuer        a token service that `docker-registry` trusts
token_service       a token service with scripted responses
certificates        a CA, and a server certificate from it
resolver            a resolver with scripted addresses
images              small OCI images in a layout
compressed          unusual gzip and zstd streams
"""
