"""The volume: the only code that opens files on it.

    directory    open directories: names are resolved below a descriptor, never via a symlink
    identity     towline-volume.json: the volume's UUID, checked before every commit
    store        blobs/ (complete, verified, read-only) and quarantine/ (bytes that went bad)
    layout       images/: one OCI image layout per image, hard links into blobs/
    listing      lists the files on a volume, for comparison with the catalog
    ingest       a package: one download in progress, from `Ingest.begin` to `Ingest.commit`
    diff_ids     a package: decompresses a layer to learn its diff_id
    background   the background thread of a hasher, of writeback and of the diff_id verifier
    small_blobs  small blobs: verified, written whole, made durable together

Bytes are verified before they get a name under blobs/: in `ingest/ingest.py` (`Ingest.commit`) and
in `small_blobs.py` (`SmallBlobWriter.put`). A name that has no row is verified in `store.py`
(`Volume.adopt`).

Files are removed through `Directory.unlink` alone:

    ingest/ingest.py    its own files (`Ingest.discard`), and all ingests of a digest once its blob
                        is stored (`Ingest.commit`, `Ingest.abandon`)
    ingest/takeover.py  ingests of earlier owners
    small_blobs.py      its own file, once that is published or has failed
    layout.py           links of an image that was replaced, or of a layout that is removed
    directory.py        the temporary name of a file that is written as a whole
    store.py            the file that `Volume.probe` made

No function deletes a blob: `store.py` moves bad ones to quarantine/.

Every name is opened below one root descriptor. Nothing here trusts locks, sizes or times that
another node reported.
"""
