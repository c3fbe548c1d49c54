"""The library: everything in towline that does not import Celery.

errors          the tree of errors; the class decides whether a step is retried
settings        every `TOWLINE_*` variable, read once into one frozen object
service_urls    checks the URLs of PostgreSQL and Redis before any client sees them
oci             pure: reference, digest, platform, descriptor, index, manifest, config
registry        HTTP to registries
governor        the rate limiter: limits per registry host, shared by the fleet through Redis
volume          the files on the shared volume: blobs, ingests, layouts
catalog         SQL: tables, statements, migrations
download        copies one blob from a registry into an ingest, over several connections
allocator       tunes glibc's malloc for workers with many threads
"""
