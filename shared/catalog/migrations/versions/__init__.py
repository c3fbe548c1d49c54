"""The migrations in order, one module per revision.

A revision that has been released is never changed; a further one follows it.

    0001_first       the first schema
    0002_fleet       step leases, admission, pauses, the fleet's row
    0003_backlog     indexes for thousands of waiting pulls
    0004_companions  leases of layers that are fetched along with another
    0005_messages    layer messages, nodes, registry holds, callbacks, indexes for ended pulls
"""
