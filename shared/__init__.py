"""The library: everything in towline that does not import Celery and is no process.

errors        the tree of errors; the class decides whether a step is retried
settings      the operator's `TOWLINE_*` variables; each `Settings.read()` returns a frozen object
service_urls  checks the URLs of PostgreSQL and Redis before any client sees them
oci           pure: reference, digest, platform, descriptor, index, manifest, config
registry      HTTP to registries
rate_limiter  limits per registry host, shared by the fleet through Redis
volume        the files on the shared volume: blobs, ingests, layouts
catalog       SQL: tables, statements, migrations. `catalog/pulls/lifecycle.py` lists every function
              that changes a pull's state
download      copies one blob from a registry into an ingest, over several connections
pulls         the use cases of a pull: accept, plan, fetch, link
allocator     keeps worker processes small
"""
