"""What a layer decompresses to, hashed and discarded: its diff_id. An extra.

verifier  decompresses a layer during its download, to learn its diff_id
hasher    one decompression in bounded steps
decoders  gzip and zstd decoders
"""
