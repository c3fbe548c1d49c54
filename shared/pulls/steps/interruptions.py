"""Why a download may be stopped from outside. These are not failures: nothing is counted."""


class Stopped(Exception):
    """A download was stopped from outside. The subclass says why."""


class LeaseLost(Stopped):
    """Another worker has taken the lease: this one must touch neither the ingest nor the row."""


class NotWanted(Stopped):
    """No open pull wants the layer any more."""


class Paused(Stopped):
    """Every pull that wants the layer is paused."""


class StoredElsewhere(Stopped):
    """The same blob was fetched from another registry first."""


class ShuttingDown(Stopped):
    """This worker is shutting down; another one continues the layer."""


class NodeSick(ShuttingDown):
    """This node cannot work now: its messages go back to the queue for other nodes."""
