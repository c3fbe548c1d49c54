"""The catalog: everything that towline keeps in PostgreSQL, and the only code that speaks SQL.

Functions take the transaction first and return frozen values. Locks are taken in one order: pulls
by id, blobs by digest, pull_layers, leases. All times are the database's. Shared rows hold only
what was verified; what a manifest claims is kept with its own links and with the pull.

    database    connections, transactions, translated errors
    model       the tables, and a pull as a value
    schema      the revision that this version needs, and how the schema is changed
    migrations  Alembic's migrations, one module per revision
    fleet       slots, nodes, leases on steps, work that was lost
    content     what is on the volume: blobs, documents, images
    layers      the layers of pulls: leases, waiters, messages
    pulls       the life of a pull, from its record to its answer
    admission   which pulls run now, which wait, and why
    reports     read-only questions of commands
"""
