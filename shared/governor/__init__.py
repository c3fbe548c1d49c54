"""What a registry may still be asked: shared by the fleet through Redis.

governor.py  the gate before every request: may it be sent now, and what came of it
knowledge.py what is known of hosts: the fleet's board, or what this process knows alone
board.py     what the fleet knows of a host, in Redis: one script a question
scripts.py   those scripts, in Lua
local.py     what one process knows by itself
limits.py    what an operator allows
"""

from shared.governor.board import connect
from shared.governor.governor import Governor
from shared.governor.limits import Limits

__all__ = ["Governor", "Limits", "connect"]
