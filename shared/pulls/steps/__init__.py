"""What every step of a pull has: leases, a heartbeat, and rules for its end.

outcomes       how a step can end, and what each end means
running        run an attempt, and carry out its outcome
attempt        one attempt, and how it gives back its leases
retrying       try again after a delay, or fail the pull
pull_lease     the lease on a pull's own steps
heartbeat      renews the leases of this process
fetched_bytes  how many bytes came over the network, for the receipt
"""
