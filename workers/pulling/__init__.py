"""The use cases of a pull, free of Celery. The way of one pull:

    request.py    keyword arguments → PullRequest, or a pull that fails at once
    planning.py   record → resolve → store the small documents → rows; what is left to fetch
    resolving.py  reference → [index → platform] → manifest → config
    fetching.py   one layer: ingest → ranges → commit → row
    linking.py    every layer is stored: links, layout, image, receipt
    attempts.py   what a failure means: try again, or the end of the pull

Each step may run twice, at once, or stop at any instruction: state is in PostgreSQL and on the
volume, and a step begins by looking there. A pull is finished when it is answered
(`workers/answering.py`).
"""
