"""The OCI and Docker specifications as Python values. Pure: no I/O.

reference       image references: registry, repository, tag, digest
digest          digests: the names of blobs
platform        platforms, and which image runs where
platform_names  the names of systems and architectures in normal form
variant         CPU variants, compared by their numbers
windows         builds of Windows, and which runs images of which
media_type      the media types that towline reads
descriptor      descriptors: how a document refers to a blob
json_document   parses untrusted JSON
document        reads bytes as an index or a manifest
index           indexes, and the choice of a manifest for a platform
manifest        manifests, and their layers with the diff_ids of a config
config          image configs
"""
