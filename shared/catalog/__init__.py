"""The catalog: everything that towline keeps in PostgreSQL, and the only code that speaks SQL.

Functions take the transaction first and return frozen values. Locks are taken in one order: pulls
by id, blobs by digest, pull_layers, leases. All times are the database's. Shared rows hold only
what was verified; what a manifest claims is kept with its own links and with the pull.

The database, its schema and its tables

    database          the connection pool, transactions, translated errors
    database_url      parsing of TOWLINE_DATABASE_URL
    outages           which errors of PostgreSQL are an outage, by SQLSTATE
    refusals          the other errors, as a sentence for operators
    schema            the revision that this version needs; the volume's identity
    migrating         changing the schema: `towline migrate`
    migrations        Alembic's migrations, one module per revision
    columns           builders for columns, names of constraints
    tables            tables of what is on the volume, and the view over them
    pull_tables       tables of pulls, of their layers, and of leases on blobs
    fleet_tables      tables of step leases, pauses, registry holds, nodes and slots
    paging            reading long lists page by page

Content: what is on the volume

    blobs             which files are on the volume
    documents         indexes, configs and manifests
    diff_ids          what configs claim about layers, and what was computed
    images            which manifest a reference names, and its files
    history           which manifests a tag has named
    layouts           whether a layout directory agrees with the image's row

Pulls: values and life

    pull_values       a pull as a value
    pull_rows         columns, conditions and updates that statements share
    pulls             from the record of a pull to linking
    arrivals          recording a new pull, and admitting it at once where possible
    beginnings        starting the first step of a pull, with its lease
    unchanged         the fast path of a pull whose image is on the volume
    duplicates        completing the other pulls of an image that was just linked
    ends              the final states, and the record of the answer

Pulls: admission and waiting

    admission         which waiting pulls go next
    line              waiting pulls, and how admitted pulls go back to waiting
    window            how many messages may be under way
    space             space on the volume, reserved for planned pulls
    pauses            what an operator has paused
    registry_holds    registries that asked the fleet to wait
    reasons           why a pull waits, kept true

Layers: one pull fetches, the others follow

    pull_layers       the layers of a pull: attempts, failures, progress
    leases            which worker fetches a blob, and until when
    layer_messages    which pull sends the message for a layer, and which follow
    layer_looks       everything that decides whether a layer is fetched now
    companions        small layers that one task fetches together
    waiters           which pull continues when the lease holder stops
    landings          recording that layers are stored
    shared_failures   pulls that fail with the attempt they waited for

Fleet and recovery

    step_leases       who resolves or links a pull, and who leads the reconcilers
    fleet             slots, and the state of Redis, as the reconciler last saw them
    nodes             a row per worker
    recovery          what the reconciler scans for

Read-only reports

    overview          the whole fleet at one moment
    chains            a pull's place among the waiting pulls, and the leases it waits for
    inventory         what `towline doctor` asks
    audit             everything on the volume, page by page, for a check of all of it
"""
