"""`python -m tests.fakes.registry`: serves a faulty registry, to test a client.

python -m tests.fakes.registry --list
python -m tests.fakes.registry --fault body-cut --fault 429-seconds --port 5000
skopeo --insecure-policy copy --src-tls-verify=false docker://127.0.0.1:5000/demo/app:1 dir:out
"""

import argparse
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fakes.answers import Request
from tests.fakes.certificates import certificates
from tests.fakes.misbehaviour import BY_NAME, GROUPS, Misbehaviour
from tests.fakes.misbehaviour.scene import Scene, staged
from tests.fakes.registry import FakeRegistry


def main() -> None:
    """List the faults, or serve a small image with some of them until interrupted."""
    options = _parser().parse_args()
    if options.list:
        # End silently when a pipe such as `| head` is closed.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        print_faults()
        return
    faults = [BY_NAME[name] for name in options.fault]
    with tempfile.TemporaryDirectory(prefix="fake-registry-") as directory:
        try:
            serve(faults, options.host, options.port, Path(directory))
        except KeyboardInterrupt:
            print()
        except OSError as error:
            sys.exit(f"Cannot serve at {options.host}: {error.strerror}.")


def print_faults() -> None:
    """Print every fault with what the registry does and what towline promises."""
    width = max(map(len, BY_NAME))
    for group, faults in GROUPS.items():
        print(f"\n{group}\n")
        for fault in faults:
            print(f"  {fault.name:<{width}}  {fault.does}")
            print(f"  {'':<{width}}  -> {fault.promise}")


def serve(faults: Sequence[Misbehaviour], host: str, port: int, directory: Path) -> None:
    """Serve until interrupted, and print each request after its response."""
    tls = certificates(directory) if any(fault.tls for fault in faults) else None
    name = " ".join(fault.name for fault in faults)
    with staged(name, address=host, port=port, tls=tls) as scene:
        scene.bring()
        for fault in faults:
            fault.arrange(scene)
            print(f"{fault.name}: {fault.does}")
            print(f"  -> {fault.promise}")
        _print_scene(scene, tls.authority if tls else None)
        for registry in (scene.registry, scene.storage):
            registry.on_answer = _printer(registry)
        threading.Event().wait()


def _print_scene(scene: Scene, authority: Path | None) -> None:
    print(f"\nimage     {scene.reference}")
    if scene.login:
        user, secret = scene.login
        print(f"login     {user} {secret}")
    if authority:
        print(f"trust     {authority}")
    print("stop      Ctrl-C\n", flush=True)


def _printer(registry: FakeRegistry) -> Callable[[Request], None]:
    def show(request: Request) -> None:
        marks = [f"range {request.range}"] if request.range else []
        marks += ["with credentials"] if "authorization" in request.headers else []
        line = f"{registry.host} {request.method} {request.path} -> {request.status}"
        print(line, f"{request.sent} bytes", *marks, sep=", ", flush=True)

    return show


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.registry",
        description="Serves a registry with a small image, demo/app:1, and the named faults, to "
        "test a client. Without a fault it works correctly. Each request is printed. A fault that "
        "occurs once occurs once after each start.",
    )
    parser.add_argument("--list", action="store_true", help="print the faults and their promises")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        choices=sorted(BY_NAME),
        metavar="NAME",
        help="a fault to have; may be given more than once",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on, as clients use it (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="the port; 0 chooses a free one (default)"
    )
    return parser
