"""The embedded stack: PostgreSQL, Redis and a worker below `TOWLINE_HOME`, for one machine.

The modules in reading order:

    joining           how a command uses the stack: join it or start it, and wait for its end
    foreground        `towline up`: keeps the stack in the foreground, with Flower
    supervisor        the process that starts, watches and stops the others
    restarting        the processes that are started again when they die
    state             the state file, and the locks that coordinate all processes
    stack_worker      the worker
    stack_reconciler  the reconciler
    servers           PostgreSQL and Redis
    child_process     child processes
    binaries          where the servers come from
    stack_files       passwords and other small files
"""
