"""The download of one blob: from the host that serves it into an ingest.

The modules in reading order:

    engine          the entry point: fetch what is missing, commit, retry what broke
    source          where a blob is requested, as the engine sees it: one host after the other
    bodies          writes one response body into the ingest
    progress        counts bytes, notes the last activity, and stops the download
    swarm           several connections for one large blob
    lane            one of these connections, in its own thread
    plan            which byte range a connection requests next
    ramp            how many connections are worth opening
    stragglers      which connections are far slower than the others
    ahead           reads small blobs a little ahead of the thread that stores them
"""
