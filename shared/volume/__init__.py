"""The volume: the only code of towline that opens files.

    directory       open directories: names are resolved below a descriptor, never via a symlink
    identity        towline-volume.json: the volume's UUID, checked before every commit
    store           blobs/ (complete, verified, read-only) and quarantine/ (bytes that went bad)
    layout          images/: one OCI image layout per image, hard links into blobs/
    inventory       lists the files on a volume, for comparison with the catalog
    ingest          ingest/: one download in progress, from begin to commit
    inheritance     what the new owner of an ingest takes over from earlier owners
    content         the bytes of an ingest: its file, its journal, its digest
    writing         one writer of an ingest, at any offset
    journal         which bytes of an ingest were written, with a checksum for each record
    checksum        the CRC-32 of the journal's records
    runs            byte ranges: which bytes of an ingest are on disk
    frontier        hashes the bytes of an ingest in order, in whatever order they arrive
    writeback       has the disk start writing early, so that the final fsync is short
    behind          the background thread that frontier, writeback and unpacking use
    unpacking       decompresses a layer during its download, to learn its diff_id
    uncompressed    one decompression in bounded steps
    decoding        gzip and zstd decoders
    shelf           small blobs: written whole, made durable together

Every name is opened below one root descriptor. Nothing here trusts locks, sizes or times that
another node reported.
"""
