"""The download of one blob: from the host that serves it into an ingest.

The modules in reading order:

    downloader        the entry point: fetch what is missing, commit, retry what broke
    source            where a blob is requested, as the engine sees it: one host after the other
    whole_bodies      writes one response body into the ingest
    progress          counts bytes, notes the last activity, and stops the download
    parallel          several connections for one large blob
    range_connection  one of these connections, in its own thread
    range_plan        which byte range a connection requests next
    concurrency       how many connections are worth opening
    stragglers        which connections are far slower than the others
    prefetch          reads small blobs a little ahead of the thread that stores them
"""
