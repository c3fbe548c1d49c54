"""What towline and other clients do when a registry misbehaves.

    sudo uv run python -m tests.benchmarks.peers --write
    sudo uv run python -m tests.benchmarks.peers --faults body-cut,range-lies --clients skopeo,ctr

Each fault is played once for each client, in a separate network. At 169.254.169.254, the address of
cloud metadata services, only a recorder listens. `--write` writes the result into
`docs/registry-faults.md`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

from shared.errors import TowlineError
from tests.benchmarks.clients import Client, Ended, Errand, installed
from tests.benchmarks.fault_table import DOCUMENT, read_scores, render
from tests.benchmarks.verdicts import OK, PATIENT_SECONDS, SECONDS, judge, waited_seconds
from tests.fakes.certificates import Certificates, certificates
from tests.fakes.misbehaviour import BY_NAME, Misbehaviour
from tests.fakes.misbehaviour.scene import METADATA_HOST
from tests.support.driver import Driver, driving
from tests.support.misbehaving_scenes import SETTINGS, driver_before, has_all
from tests.support.services import fresh_database, passable_directory, running_postgres

_AT_ONCE = 4
_INSIDE = "TOWLINE_INSIDE_ITS_WORLD"
# All clients share one recorder at the address of the metadata service.
_metadata = threading.Lock()


def main() -> int:
    """Run, print, and write. Exit status 1 if towline broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", default=",".join(BY_NAME), help="names, comma-separated")
    parser.add_argument(
        "--clients", default="skopeo,podman,crane,ctr", help="in addition to towline"
    )
    parser.add_argument("--write", action="store_true", help="into docs/registry-faults.md")
    options = parser.parse_args()
    enter_world()
    faults = [BY_NAME[name] for name in options.faults.split(",")]
    with passable_directory() as directory:
        made = certificates(directory / "certificates")
        (directory / "certificates" / "ca.crt").write_bytes(made.authority.read_bytes())
        scores = {"towline": of_towline(faults, directory, made)}
        for client in installed():
            if client.name in options.clients.split(","):
                title = f"{client.name} {client.version}"
                scores[title] = of_client(client, faults, directory, made)
    print_scores(faults, scores)
    if options.write:
        kept = read_scores(DOCUMENT.read_text()) if DOCUMENT.exists() else {}
        new = {title: {**kept.get(title, {}), **verdicts} for title, verdicts in scores.items()}
        DOCUMENT.write_text(render(kept | new))
    return int(any(verdict != OK for verdict in scores["towline"].values()))


def of_towline(faults: list[Misbehaviour], directory: Path, made: Certificates) -> dict[str, str]:
    """Whole pulls, one after the other. A wait that a step asks for is recorded, not waited for."""
    verdicts = {}
    os.environ["DOCKER_CONFIG"] = str(directory)
    volume = directory / "volume"
    volume.mkdir()
    with (
        running_postgres() as server,
        fresh_database(server) as url,
        driving(url, volume, **SETTINGS) as fleet,
    ):
        for fault in faults:
            verdicts[fault.name] = _towline(fault, fleet, directory, made)
            print(f"towline {fault.name}: {verdicts[fault.name]}", file=sys.stderr)
    return verdicts


def _towline(fault: Misbehaviour, fleet: Driver, directory: Path, made: Certificates) -> str:
    with (
        fault.staged(tls=made if fault.tls else None, metadata=True) as scene,
        driver_before(scene, fleet, directory, made) as driver,
    ):
        ended, failure = Ended(0, ""), None
        try:
            driver.pull(scene.reference)
        except TowlineError as error:
            ended, failure = Ended(1, str(error)), type(error).__name__
        waited = max(driver.delays, default=0.0)
        verdict = judge(fault, scene, ended, is_whole=has_all(driver, scene), waited=waited)
        kept = verdict != OK or failure == fault.promise.error
        return verdict if kept else f"as {failure}"


def of_client(
    client: Client, faults: list[Misbehaviour], directory: Path, made: Certificates
) -> dict[str, str]:
    """Pulls by another client, several at once, since most of them wait most of the time."""

    def one(fault: Misbehaviour) -> str:
        verdict, said = _other(client, fault, directory, made)
        last = said.strip().rpartition("\n")[2]
        print(f"{client.name} {fault.name}: {verdict} ({last[:300]})", file=sys.stderr)
        return verdict

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip([fault.name for fault in faults], pool.map(one, faults), strict=True))


def _other(
    client: Client, fault: Misbehaviour, directory: Path, made: Certificates
) -> tuple[str, str]:
    at_metadata = "metadata" in fault.name
    with (
        tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as own,
        _metadata if at_metadata else nullcontext(),
        fault.staged(tls=made if fault.tls else None, metadata=at_metadata) as scene,
    ):
        errand = Errand(scene, Path(own), directory / "certificates")
        ended = client.pull(errand, PATIENT_SECONDS if fault.takes_time else SECONDS)
        is_whole = client.has_all(errand)
        waited = waited_seconds(scene)
        return judge(fault, scene, ended, is_whole=is_whole, waited=waited), ended.said


def print_scores(faults: list[Misbehaviour], scores: dict[str, dict[str, str]]) -> None:
    """A table: one row per fault, one column per client."""
    width = max(len(fault.name) for fault in faults)
    print(f"{'':<{width}}  " + "".join(f"{title:<24}" for title in scores))
    for fault in faults:
        cells = "".join(f"{verdicts[fault.name]:<24}" for verdicts in scores.values())
        print(f"{fault.name:<{width}}  {cells}")
    counts = (sum(verdict == OK for verdict in verdicts.values()) for verdicts in scores.values())
    print(f"{'ok of ' + str(len(faults)):<{width}}  " + "".join(f"{n:<24}" for n in counts))


def enter_world() -> None:
    """Return inside a network that reaches no other host. Exits with a sentence if it cannot be
    created.
    """
    if os.environ.pop(_INSIDE, None) is None:
        _start_again()
    for words in (("link", "set", "lo", "up"), ("address", "add", METADATA_HOST, "dev", "lo")):
        subprocess.run(["ip", *words], check=True)


def _start_again() -> NoReturn:
    if os.geteuid() != 0:
        sys.exit("Run this as root: it creates a separate network.")
    os.environ[_INSIDE] = "1"
    namespaces = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    os.execvp("unshare", ["unshare", *namespaces, sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
