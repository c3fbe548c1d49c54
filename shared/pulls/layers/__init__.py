"""Fetch one layer: the way from its task to its row.

fetching           take the lease of the layer and fetch it, or join the pull that holds it
claimed_layers     layers that a task of this process fetches along with its own
blockers           what blocks a layer from being fetched now: a pause, no space, no free slot
small_layer_fetch  small layers that one task fetches together
leased_fetch       fetch one layer while its lease is renewed, or handle a stopped download
transfer           the bytes: adopt the file, or download into an ingest and commit it
bytes_fetched      how many bytes came over the network, for the receipt
diff_id_check      verify diff_ids, if that is enabled
layer_completion   record the stored layers, and find the pulls that they complete
"""
