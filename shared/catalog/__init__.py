"""The catalog: the only code of towline that speaks SQL.

    tables.py  pull_tables.py  fleet_tables.py  columns.py   the tables
    migrations/  migrating.py  schema.py     how they came to be, and who can work on which
    database.py  database_url.py             one pool, one transaction at a time, errors translated
    outages.py  refusals.py                  which errors of PostgreSQL pass, and which do not

    arrivals.py     a pull is recorded            line.py         where it waits for its turn
    window.py       how much may be under way     admission.py    whose turn it is
    registry_holds.py  registries that asked the fleet to wait
    pauses.py       what an operator has paused   beginnings.py   a pull's first step
    pulls.py        from queued to linking        ends.py         how it ended
    pull_rows.py    how it is read and moved      pull_values.py  as a value
    pull_layers.py  its layers on their way       layer_messages.py  who sends, who follows
    layer_looks.py  whether one is fetched now    companions.py   small ones of one task
    waiters.py      who goes on with a layer      landings.py     that it is stored
    shared_failures.py  who has failed with the one that tried
    duplicates.py   pulls of an image that was linked            layouts.py  its layout and its row
    leases.py       who is at work on a blob      step_leases.py  and on a pull's own steps
    space.py        room that is reserved         unchanged.py    the short way
    blobs.py        files under blobs/            diff_ids.py     what they uncompress to
    documents.py    indexes, configs, manifests   images.py       references and their files
    history.py      what a tag has named

    recovery.py     what the reconciler looks for reasons.py      why a pull waits
    fleet.py        what it knows of the fleet    nodes.py        each worker's own row
    overview.py  chains.py  inventory.py  audit.py  paging.py    what commands show; reads only

Functions take the transaction first and return frozen values. Shared rows hold only what was
verified; a manifest's claims stand on its links. All times are the database's.
"""
