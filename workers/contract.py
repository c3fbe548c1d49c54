"""The names on the wire: tasks and queues. Other services build on them; they never change."""

PULL_IMAGE = "towline.pull_image"
RESUME_PULL = "towline.resume_pull"
CANCEL_PULL = "towline.cancel_pull"
FETCH_LAYER = "towline.fetch_layer"
LINK_IMAGE = "towline.link_image"

PULLS = "towline.pulls"
LAYERS = "towline.layers"
CONTROL = "towline.control"
HOUSEKEEPING = "towline.housekeeping"
# In the order in which a worker reads them: short messages before layers, which may take hours.
QUEUES = (CONTROL, PULLS, HOUSEKEEPING, LAYERS)

QUEUE_OF = {
    PULL_IMAGE: PULLS,
    RESUME_PULL: PULLS,
    CANCEL_PULL: CONTROL,
    FETCH_LAYER: LAYERS,
    LINK_IMAGE: PULLS,
}
