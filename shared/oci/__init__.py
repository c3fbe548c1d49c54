"""What the OCI and Docker specifications say, and nothing else: pure, no I/O.

reference and digest name things; platform chooses among them; descriptor points at a blob;
document reads bytes as an index or a manifest; manifest pairs layers with a config's diff_ids.
"""
