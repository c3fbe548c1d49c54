"""The migrations in order, one module per revision.

A revision that has been released is never changed; a further one follows it.

    0006_first  the first schema
"""
