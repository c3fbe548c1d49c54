"""The volume: the only code of towline that opens files.

    directory    open directories: names are resolved below a descriptor, never via a symlink
    identity     towline-volume.json: the volume's UUID, checked before every commit
    store        blobs/ (complete, verified, read-only) and quarantine/ (bytes that went bad)
    layout       images/: one OCI image layout per image, hard links into blobs/
    listing      lists the files on a volume, for comparison with the catalog
    ingest       one download in progress; `commit()` verifies size and digest, then publishes
    diff_ids     decompresses a layer to learn its diff_id
    background   the background thread of a hasher, of writeback and of the diff_id verifier
    small_blobs  small blobs: verified, written whole, made durable together

Files are removed by `ingest` (its own, and those of its digest after a commit, or of a previous
owner in `takeover`), by `layout` (links of an image that was replaced) and by `store`, which moves
bad blobs to quarantine/ and never deletes one.

Every name is opened below one root descriptor. Nothing here trusts locks, sizes or times that
another node reported.
"""
