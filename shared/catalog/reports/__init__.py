"""Questions of commands. They only read.

overview        the whole fleet at one moment
queue_position  a pull's place among the waiting pulls, and the leases it waits for
doctor_checks   what `towline doctor` asks
audit           everything on the volume, page by page, for a check of all of it
"""
