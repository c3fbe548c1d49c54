"""Ingests: bytes on their way into the store, resumable by any worker.

ingest          one download in progress, from begin to commit, which verifies its bytes
takeover        what the new owner of an ingest takes over from earlier owners
ingest_file     the bytes of an ingest: its file, its journal, its digest
writer          one writer of an ingest, at any offset
journal         which bytes of an ingest were written, with a checksum for each record
checksum        the CRC-32 of the journal's records
byte_ranges     byte ranges: which bytes of an ingest are on disk
ordered_hasher  hashes the bytes of an ingest in order, in whatever order they arrive
writeback       has the disk start writing early, so that the final fsync is short
"""
