"""Measurements that a person runs. They print figures and ratios; tests never assert these.

README.md describes the measurements; `python -m tests.benchmarks --help` lists them.

Speed:

    one_layer       one large layer, compared with other clients
    throttled       an origin that throttles each connection
    slow_front_end  one slow connection in eight
    layer_sizes     layers of usual sizes from far away
    fleet           images per minute of one, two and four workers
    shared_bases    images that share their bases
    many_small      small layers, and pulls of present images
    diff_ids        the cost of verifying a diff_id
    memory          the peak memory of a worker
    backlog         ten thousand queued pulls
    burst           thousands of pulls of one new image
    held_registry   thousands of pulls of a registry that holds back
    history         a catalog of a million ended pulls
    idle_cost       the load of a fleet at rest
    dead_mirror     the cost of a dead mirror

Faults:

    soak            every fault alone, or upon each other
    killed          kill -9 in the middle of a layer
    wiped           Redis loses everything
    partition       a node that loses its network
    sick_node       one sick node of two
    peers           every registry fault, with towline and with other clients

The source:

    house           how much there is to read, at two commits

What they share:

    tables          rounds in turns, medians, goals
    plots           plots of the results
    fleets          fleets on durable stores
    queued          a fleet with queued pulls
    drained         what must hold once a backlog has drained
    costs           SQL, Redis commands and processor time
    plans           the plans of statements
    transfers       one layer by the download engine, without a fleet
    copies          one layer by other programs
    clients         other clients that pull images
    verdicts        whether a client did what it owes its user
    fault_table     writes docs/registry-faults.md
    links           whether images are linked as their registry has them
    traffic         pulls that continue during faults, and their outcome
    strikes         the faults of the soak
    origin          a registry of layers of any size from memory
    origin_server   the process behind it
    proxy           a throttling proxy in front of it
    idle_tasks      Celery tasks that do nothing
    namespaces      isolated networks and nodes
    glusterfs       a GlusterFS volume between nodes
"""
