"""Fetch one layer: the way from its task to its row.

fetching           one page: lease, transfer, store, send what can go on
leasing            decide whether the layer is fetched now, and take its lease or join its holder
blockers           what blocks a layer from being fetched now: a pause, no space, no free slot
transfer           the bytes: adopt the file, or download into an ingest and commit it
small_layer_fetch  small layers that one task fetches together
claimed_layers     layers that a task of this process fetches along with its own
diff_id_check      verify diff_ids, if that is enabled
"""
