"""The volume: the only code of towline that opens files.

    towline-volume.json   identity.py   who this volume is; checked before every commit
    ingest/…              ingest.py     a download under way, with journal.py beside it
                          content.py    its bytes, the journal that vouches for them, their digest
                          writing.py    one of its writers, at any place in it
                          checksum.py   what a record of the journal is proved by
                          runs.py       which of its bytes are there
                          frontier.py   their digest, in order, however they land
                          writeback.py  the disk's work, started early
                          behind.py     the threads of these, and of unpacking.py
                          unpacking.py  what they uncompress to, beside it or afterwards
                          uncompressed.py  that, step by step
                          decoding.py   gzip and zstd
                          inheritance.py  what a new owner takes from earlier ones
                          shelf.py      small ones, stored whole and together
    blobs/…               store.py      complete, verified, read-only; a name is a promise
    images/…              layout.py     an OCI image layout for each image, hard links into blobs/
    quarantine/…          store.py      bytes that stopped matching their name

directory.py is the way to any of them: every name is opened below one root descriptor and never
through a symbolic link. Nothing here trusts locks, sizes or times seen from another node.
"""
