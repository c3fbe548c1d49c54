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

# Width of the column for pull ids. Celery's own ids have 36 characters.
PULL_ID_CHARACTERS = 155


def is_pull_id(text: str) -> bool:
    """Whether a pull's row can have this id."""
    return len(text) <= PULL_ID_CHARACTERS and is_storable(text)


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold this string: it has no NUL and no lone surrogate."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)
