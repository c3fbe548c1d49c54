"""What the tests of every tier share.

services            starts a PostgreSQL and a Redis for one run of the test suite
waiting             waits for a condition instead of for a time
driver              runs a whole pull without Celery
misbehaving_scenes  runs towline against a misbehaving registry
embedded_stack      an embedded stack seen from outside
secrecy             the secrets of the tests, and the search for leaks of them
untrusted_input     documents of untrusted registries, generated for property tests
"""
