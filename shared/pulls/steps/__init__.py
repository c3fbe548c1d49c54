"""Run any step of a pull: leases, heartbeat, attempts, retries.

step_run       run a step; the class of the error that ends it decides what happens next
attempts       one attempt at a step: the leases it holds, and how it gives them back
pull_lease     the lease on a pull's own steps: one process at a time resolves or links a pull
heartbeat      the thread that renews leases and stops downloads that no pull wants
retrying       what a transient error means: try again after a delay, or fail the pull
interruptions  why a download may be stopped from outside
"""
