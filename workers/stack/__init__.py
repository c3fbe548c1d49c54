"""The embedded stack: PostgreSQL, Redis and a worker below `TOWLINE_HOME`, for one machine.

joining.py      how a command gets one, and how the last one out stops it
foreground.py   `towline up`: keep it in the foreground, with Flower
supervisor.py   the process that starts, watches and stops the others
state.py        what all of them know, and the locks between them
worker.py       the worker                     reconciler.py  the reconciler
servers.py      PostgreSQL and Redis           process.py   child processes
binaries.py     where the servers come from    files.py     passwords and other small files
"""
