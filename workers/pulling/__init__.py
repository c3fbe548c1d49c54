"""The use cases of a pull. They do not import Celery: `workers/tasks.py` calls them.

The modules, in the order in which a pull passes through them.

Accept:
    accepting     record the pull, and admit it if there is room
    request       parse and check the arguments of `towline.pull_image`

Run any step:
    trying        run a step; the class of the error that ends it decides what happens next
    attempts      one attempt at a step: the leases it holds, and how it gives them back
    stepping      the lease on a pull's own steps: one process at a time resolves or links a pull
    keeping       the thread that renews leases and stops downloads that no pull wants

Plan:
    planning      resolve, store the documents, reserve space, decide which layers to fetch
    unchanged     the fast path: the image is on the volume already, so the pull completes here
    resolving     reference → index → manifest for the platform → config

Fetch, once per layer:
    fetching      take the lease of the layer and fetch it, or join the pull that holds it
    spoken_for    layers that a task of this process fetches along with its own
    obstacles     what blocks a layer from being fetched now: a pause, no space, no free slot
    companions    small layers that one task fetches together
    arriving      fetch one layer while its lease is renewed, or handle a stopped download
    transferring  the bytes: adopt the file, or download into an ingest and commit it
    tally         how many bytes came over the network, for the receipt
    proving       verify diff_ids, if that is enabled
    landing       record the stored layers, and find the pulls that they complete

Link:
    linking       every layer is stored: links, layout, image, receipt
    laying_out    the layout directory, kept equal to the image's row
    receipts      what the caller gets
    duplicates    complete the other pulls of the same image

End otherwise:
    retrying      what a transient error means: try again after a delay, or fail the pull
    stops         why a download may be stopped from outside
    ending        cancel, deadline, retry
    known         look up a pull by an id from outside

Send:
    outbox        what to send once a step is committed; `workers/dispatching.py` sends it

Any step may run twice, run in two processes at once, or stop at any instruction. All state is in
PostgreSQL and on the volume, and a step begins by reading it. A pull is finished once its caller is
answered (`workers/answering.py`).
"""
