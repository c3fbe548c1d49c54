"""The tests, in three tiers, and what they share.

unit            no sockets, and no disk except `tmp_path`
integration     a real PostgreSQL, Redis, volume and registry; use cases without Celery
acceptance      real worker processes, some of which are killed
benchmarks      measurements that a person runs; no tests
fakes           small servers that speak real protocols: a registry with faults, a token service

support         what drives towline in a test, and what every tier shares
builders        rows, files and downloads that exist before a test begins
conftest        fixtures of all tiers
"""
