"""Commands about pulls.

pull     `towline pull`: records and sends pulls, and waits for them
status   `towline status`: the newest pulls, or one with its layers
watch    `towline watch`: one pull until it ends, or all open pulls
explain  `towline explain`: why a pull waits, until when, and what would unblock it
cancel   `towline cancel`: ends pulls
retry    `towline retry`: pulls again what failed or was cancelled
"""
