"""The use cases of a pull. They do not import Celery: `workers/tasks.py` calls them.

The modules, in the order in which a pull passes through them.

Accept:
    accepting  record the pull, and admit it if there is room
    request    parse and check the arguments of `towline.pull_image`

Run any step:
    context  what a step works with: catalog, volume, registries of one process
    steps    leases, heartbeat, attempts, retries

Plan:
    planning   resolve, store the documents, reserve space, decide which layers to fetch
    fast_path  the fast path: the image is on the volume already, so the pull completes here
    resolving  reference → index → manifest for the platform → config

Fetch, once per layer:
    layers  from the task of a layer to its row

Link:
    linking           every layer is stored: links, layout, image, receipt
    laying_out        the layout directory, kept equal to the image's row
    receipts          what the caller gets
    same_image_pulls  complete the other pulls of the same image

End otherwise:
    cancelling  cancel, deadline, retry
    pull_ids    ids from outside: which of them a row can have, and the pull of one

Send:
    outbox  what to send once a step is committed; `workers/messages/dispatching.py` sends it

Any step may run twice, run in two processes at once, or stop at any instruction. All state is in
PostgreSQL and on the volume, and a step begins by reading it. A pull is finished once its caller is
answered (`workers/messages/answering.py`).
"""
