"""The checks of `towline doctor`: each function asks one question, and answers with findings.

database_checks  PostgreSQL: the server, the schema, the clock
redis_checks     Redis, which holds the messages and the answers
fleet_checks     workers, nodes, the reconciler, pauses
registry_checks  the registries file, and hosts that must not be asked now
volume_checks    the volume: its identity and its free space
pull_checks      no pull is lost, stuck or unanswered
"""
