"""Why a download may be ended from outside. None is a failure: nothing is counted."""


class Stopped(Exception):
    """A download was ended from outside."""


class LeaseLost(Stopped):
    """Another worker has taken the lease: neither ingest nor row is ours to touch."""


class NotWanted(Stopped):
    """No open pull wants the layer any more."""


class Paused(Stopped):
    """Every pull that wants the layer is paused."""


class StoredElsewhere(Stopped):
    """The same blob came from another registry first."""


class LettingGo(Stopped):
    """This worker is shutting down; the layer goes on elsewhere."""


class NodeSick(LettingGo):
    """This node cannot work now; its messages are given back, and the steps go on elsewhere."""
