"""Commands about the fleet, and the processes that make it up.

doctor     `towline doctor`: checks the fleet
pause      `towline pause` and `towline resume`
migrate    `towline migrate`: prepares the database and the volume
worker     `towline worker`: Celery's worker
reconcile  `towline reconcile`: the reconciler
up         `towline up`: the embedded stack in the foreground
"""
