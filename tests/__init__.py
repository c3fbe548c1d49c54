"""The tests, in three tiers, and what they share.

unit            no sockets, and no disk except `tmp_path`
integration     a real PostgreSQL, Redis, volume and registry; use cases without Celery
acceptance      real worker processes, some of which are killed; `faults` breaks their servers too

support         what drives towline in a test, and what every tier shares
builders        rows, files and downloads that exist before a test begins
fakes           small servers that speak real protocols: a registry with faults, a token service
conftest        fixtures of all tiers; each room has its own as well
data            tables that other projects publish for tests
benchmarks      measurements that a person runs; no tests

The rooms of `unit` and `integration` have the names of the packages in `shared` and `workers`.
README.md says how to run a part.
"""
