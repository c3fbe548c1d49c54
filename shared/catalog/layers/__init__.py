"""The layers of pulls: one pull fetches a layer, the others follow.

pull_layers       the layers of a pull: attempts, failures, progress
leases            which worker fetches a blob, and until when
lease_reports     progress of downloads, which renews their leases
messages          which pull sends the message for a layer, and which follow
fetch_state       everything that decides whether a layer is fetched now
layer_slots       which layers may take a slot, and which wait for one
small_layers      small layers that one task fetches together
waiters           which pull continues when the lease holder stops
wanted_downloads  which downloads should go on, and for which pull
storing           recording that layers are stored
shared_failures   pulls that fail with the attempt they waited for
"""
