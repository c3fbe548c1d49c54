"""A GlusterFS volume of one brick, served by a separate node and mounted on other nodes.

It must be used inside `namespaces.enter_world()`: what GlusterFS writes below /var stays in there.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.namespaces import Node, Run
from tests.support.waiting import wait_until

_NAME = "towline"
_STATE = ("/var/lib/glusterd", "/var/log/glusterfs")
_START_SECONDS = 30
# How long a client waits for a brick that is silent before its calls fail with ENOTCONN.
_PING_TIMEOUT_SECONDS = 5


def need_glusterfs() -> None:
    """Exits with a sentence if GlusterFS is not installed."""
    if any(shutil.which(tool) is None for tool in ("glusterd", "gluster", "mount.glusterfs")):
        sys.exit("Install GlusterFS first: apt install glusterfs-server glusterfs-client")


def hide_state(home: Path) -> None:
    """Keep GlusterFS's files below `home`. Call it before any node starts: nodes inherit mounts."""
    for path in map(Path, _STATE):
        own = home / path.name
        own.mkdir(parents=True)
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", own, path], check=True)


def serve(node: Node, brick: Path) -> None:
    """A volume with default options, except for a shorter time-out for a silent brick."""
    brick.mkdir(parents=True)
    subprocess.Popen(node.inside("glusterd", "--no-daemon"), start_new_session=True)
    wait_until(lambda: _answers(node), timeout=_START_SECONDS)
    _gluster(node, "create", _NAME, f"{node.address}:{brick}", "force")
    _gluster(node, "set", _NAME, "network.ping-timeout", str(_PING_TIMEOUT_SECONDS))
    _gluster(node, "start", _NAME)


def mount(server: Node, path: Path, run: Run) -> None:
    """Mount the volume at `path`, on the node of `run`."""
    run("mount", "-t", "glusterfs", f"{server.address}:/{_NAME}", path)


def _answers(node: Node) -> bool:
    asked = node.inside("gluster", "--mode=script", "pool", "list")
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _gluster(node: Node, *command: str) -> None:
    node.run("gluster", "--mode=script", "volume", *command)
