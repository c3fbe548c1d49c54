"""An isolated environment for a script, made of Linux namespaces, with nodes on a network inside
it.

The script starts itself again as the first process of a network, a mount and a PID namespace.
However it ends, by Ctrl-C or kill -9, no link, rule, mount or process is left on the machine. A
firewall of the machine for its own bridges (Docker's) does not see this one.

    bridge 10.203.0.1 ─┬─ node 10.203.0.2     the servers on the script's loopback are reached
                       ├─ node 10.203.0.3     at 10.203.0.1 under the same ports
                       └─ …
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

BRIDGE_ADDRESS = "10.203.0.1"
NETWORK = "10.203.0.0/24"

_BRIDGE = "towline"
_INSIDE = "TOWLINE_INSIDE_ITS_WORLD"
_TOOLS = {"ip": "iproute2", "iptables": "iptables", "nsenter": "util-linux"}


def enter_world() -> None:
    """Return inside the namespaces. Exits with a sentence if they cannot be created."""
    if os.environ.pop(_INSIDE, None) is None:
        _start_again()
    # The first process of a PID namespace ignores signals without a handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # For lock files, pid files and control sockets of the tools used here.
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", _BRIDGE, "type", "bridge")
    run("ip", "address", "add", f"{BRIDGE_ADDRESS}/24", "dev", _BRIDGE)
    run("ip", "link", "set", _BRIDGE, "up")
    # Nodes and the script reach servers that bind 127.0.0.1 at the bridge's address as well.
    Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
    for chain in ("PREROUTING", "OUTPUT"):
        rule = ("-d", BRIDGE_ADDRESS, "-p", "tcp", "-j", "DNAT", "--to-destination", "127.0.0.1")
        run("iptables", "-w", "-t", "nat", "-A", chain, *rule)


def _start_again() -> NoReturn:
    if os.geteuid() != 0:
        sys.exit("Run this as root: it creates network namespaces.")
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            sys.exit(f"Install {package} first: {tool} is missing.")
    os.environ[_INSIDE] = "1"
    namespaces = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    os.execvp("unshare", ["unshare", *namespaces, sys.executable, *sys.orig_argv[1:]])


def run(*command: str | Path) -> None:
    """Run a tool to its end. Exits with its output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        sys.exit(f"{' '.join(map(str, command))} failed: {said}")


# `run`, on some node or on the host.
Run = Callable[..., None]


@dataclass(frozen=True)
class Node:
    """A separate host name, address and mount namespace, held by a process that sleeps."""

    name: str
    address: str
    pid: int

    @classmethod
    def start(cls, number: int, name: str) -> "Node":
        """Start the node with this number as the last part of its address."""
        held = f"hostname {name} && echo && exec sleep infinity"
        holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "sh", "-c", held],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert holder.stdout is not None
        if not holder.stdout.readline():
            sys.exit("A node needs namespaces that this kernel refuses.")
        node = cls(name, f"{NETWORK.rpartition('.')[0]}.{number}", holder.pid)
        node._plug_in(f"port{number}")
        return node

    def _plug_in(self, port: str) -> None:
        peer = ("peer", "name", "eth0", "netns", str(self.pid))
        run("ip", "link", "add", port, "type", "veth", *peer)
        run("ip", "link", "set", port, "master", _BRIDGE, "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            self.run("ip", "link", "set", link, "up")

    def inside(self, *command: str | Path) -> list[str | Path]:
        """A command line that runs on this node, in the same directory."""
        entered = ("--net", "--mount", "--uts", f"--wd={Path.cwd()}")
        return ["nsenter", f"--target={self.pid}", *entered, "--", *command]

    def run(self, *command: str | Path) -> None:
        """Run a tool on this node. Exits with its output if it fails."""
        run(*self.inside(*command))

    def cut_off(self, end: "End | None" = None) -> None:
        """From now on, drop every packet to and from this end, or every packet at all."""
        incoming, outgoing = (["!", "-i", "lo"], ["!", "-o", "lo"]) if end is None else end.matches
        self.run("iptables", "-w", "-A", "INPUT", *incoming, "-j", "DROP")
        self.run("iptables", "-w", "-A", "OUTPUT", *outgoing, "-j", "DROP")

    def heal(self) -> None:
        """Restore the network."""
        self.run("iptables", "-w", "-F")


@dataclass(frozen=True)
class End:
    """What a node talks to: an address, or one TCP port of it."""

    address: str
    port: int | None = None

    @property
    def matches(self) -> tuple[list[str], list[str]]:
        """The iptables options that match packets from and to this end."""
        incoming, outgoing = ["-s", self.address], ["-d", self.address]
        if self.port is not None:
            incoming += ["-p", "tcp", "--sport", str(self.port)]
            outgoing += ["-p", "tcp", "--dport", str(self.port)]
        return incoming, outgoing
