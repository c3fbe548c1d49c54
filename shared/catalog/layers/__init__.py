"""The layers of pulls: one pull fetches a layer, the others follow.

pull_layers      the layers of a pull: attempts, failures, progress
leases           which worker fetches a blob, and until when
messages         which pull sends the message for a layer, and which follow
fetch_state      everything that decides whether a layer is fetched now
small_layers     small layers that one task fetches together
waiters          which pull continues when the lease holder stops
storing          recording that layers are stored
shared_failures  pulls that fail with the attempt they waited for
"""
