"""The volume: the only code of towline that opens files.

    directory    open directories: names are resolved below a descriptor, never via a symlink
    identity     towline-volume.json: the volume's UUID, checked before every commit
    store        blobs/ (complete, verified, read-only) and quarantine/ (bytes that went bad)
    layout       images/: one OCI image layout per image, hard links into blobs/
    listing      lists the files on a volume, for comparison with the catalog
    ingest       one download in progress, from begin to commit
    diff_ids     decompresses a layer to learn its diff_id
    ingest       one download in progress, from begin to commit
    diff_ids     decompresses a layer to learn its diff_id
    small_blobs  small blobs: written whole, made durable together

Every name is opened below one root descriptor. Nothing here trusts locks, sizes or times that
another node reported.
"""
