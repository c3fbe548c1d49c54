"""The use cases of a pull, free of Celery. The way of one pull:

    request.py    keyword arguments → PullRequest, or a pull that fails at once
    accepting.py  record, and wait for its turn (`shared/catalog/admission.py`)
    planning.py   resolve → store the small documents → rows → space; what is left to fetch
    resolving.py  reference → [index → platform] → manifest → config
    unchanged.py  the short way: what the reference names is on the volume already
    fetching.py   one layer: its lease, or join whoever has it
    companions.py small ones that come along with it
    arriving.py   it comes, while its lease is kept, or is stopped
    transferring.py  its bytes under that lease: adopted, or ingest → ranges → commit
    proving.py    what they uncompress to, where diff_ids are verified
    obstacles.py  what keeps a layer from being fetched now
    landing.py    the rows of layers, and everybody who waits for it
    linking.py    every layer is stored: links, layout, image, receipt
    ending.py     cancel, deadline, retry

    trying.py     a step is tried: the class of the error that ends it decides
    attempts.py   one try, and how it gives back what it holds
    retrying.py   what a transient error means: try again, and when, or the end of the pull
    stepping.py   a pull's own steps are done by one process at a time
    keeping.py    the thread that keeps leases alive and ends downloads that nobody wants
    stops.py      why it does that
    tally.py      how many bytes came, for the receipt
    spoken_for.py what a task of this process fetches along with its own
    outbox.py     what is sent once a step is committed (`workers/dispatching.py`)

Each step may run twice, at once, or stop at any instruction: state is in PostgreSQL and on the
volume, and a step begins by looking there. A pull is finished when it is answered
(`workers/answering.py`).
"""
