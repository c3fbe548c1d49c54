"""The tests, in three tiers, and what they share.

unit            no sockets, and no disk except `tmp_path`
integration     a real PostgreSQL, Redis, volume and registry; use cases without Celery
acceptance      real worker processes, some of which are killed
benchmarks      measurements that a person runs; no tests
fakes           small servers that speak real protocols: a registry with faults, a token service

conftest        fixtures of all tiers
services        starts a PostgreSQL and a Redis for one run of the test suite
stack           an embedded stack seen from outside
driver          runs a whole pull without Celery
scenes          runs towline against a misbehaving registry
waiting         waits for a condition instead of for a time
secrecy         the secrets of the tests, and the search for leaks of them
grown           fills a catalog with a year of pulls
strategies      generates documents for property tests
"""
