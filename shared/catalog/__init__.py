"""The catalog: the only code of towline that speaks SQL.

    tables.py        what is on the volume         pull_tables.py pulls on their way
    columns.py       what tables are made of       migrations/    how they came to be
    schema.py        which of them workers know    migrating.py   moves them
    database.py      one connection pool, one transaction at a time, errors translated
    pulls.py         a pull from queued to linking        ends.py         how it ended
    pull_rows.py     how it is read and moved             pull_values.py  as a value
    pull_layers.py   its layers on their way              layer_messages.py  what is sent for one
    waiters.py       who goes on with a layer             landings.py     who is told that it came
    companions.py    small ones that one task fetches together
    shared_failures.py  who has failed with the one that tried
    diff_ids.py      what is claimed of a layer, and what was verified
    blobs.py         files under blobs/                   leases.py       who is at work on one
    documents.py     indexes, configs, manifests          images.py       references and their files

Functions take the transaction first and return frozen values. Shared rows hold only what was
verified; a manifest's claims stand on its links. All times are the database's.
"""
