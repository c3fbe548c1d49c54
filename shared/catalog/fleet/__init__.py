"""What the fleet knows about itself: slots, nodes, leases on steps, work that was lost.

step_leases  who resolves or links a pull, and who leads the reconcilers
fleet_slots  slots, and the state of Redis, as the reconciler last saw them
node_rows    a row per worker
round_pages  what a round of the reconciler looks at
due_pulls    pulls of a round that should be resolved or linked
due_layers   layers of a round that should be fetched
late_pulls   pulls past their deadline, and answers that are missing
"""
