"""What the fleet knows about itself: slots, nodes, leases on steps, work that was lost.

step_leases  who resolves or links a pull, and who leads the reconcilers
fleet_slots  slots, and the state of Redis, as the reconciler last saw them
node_rows    a row per worker
due_work     what the reconciler scans for
"""
