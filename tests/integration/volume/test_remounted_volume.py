"""A volume that is mounted again, in a mount namespace of its own: as root, with `unshare`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# What each of the scripts begins with: an open volume, and a second path to its directory.
_BEGIN = """
import os
import shutil
import subprocess
import sys
from pathlib import Path
from shared.errors import VolumeUnavailable
from shared.oci.digest import Digest
from shared.volume.identity import prepare
from shared.volume.ingest.ingest import Ingest
from shared.volume.small_blobs import SmallBlobWriter
from shared.volume.store import Volume

path, behind, copy = map(Path, sys.argv[1:])
volume = Volume(path, prepare(path, None))

def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)

def mount_again(directory):
    subprocess.run(["umount", "-l", path], check=True)
    mount("--bind", directory, path)

mount("--bind", path, behind)
mount("--bind", path, path)
"""

# The volume becomes read-only under an open Volume, then is mounted again: the same directory of
# the same filesystem, so device and inode are equal all the time.
_READ_ONLY = """
mount("-o", "remount,ro,bind", path)
try:
    volume.probe()
    raise SystemExit("It wrote to a read-only mount.")
except VolumeUnavailable as error:
    print(error)
mount_again(behind)
volume.probe()
print("well")
"""

_DURING_A_DOWNLOAD = """
volume.check()
raw = os.urandom(300_000)
digest = Digest.of(raw)
ingest = Ingest.begin(volume, digest, len(raw), "owner")
ingest.write(raw[:200_000])
mount_again({directory})
ingest.write(raw[200_000:])
try:
    ingest.commit()
    print("stored", volume.read(digest, len(raw)) == raw)
except VolumeUnavailable as error:
    print(error)
"""

_BETWEEN_SMALL_BLOBS_AND_THEIR_FSYNC = """
volume.check()
digest = Digest.of(b"small")
with SmallBlobWriter(volume, "owner") as writer:
    writer.put(digest, b"small")
    mount_again({directory})
    try:
        writer.fsync()
        print("stored", volume.read(digest, 5) == b"small")
    except VolumeUnavailable as error:
        print(error)
"""

# What is mounted in place of the volume: its own directory, or a copy that has its identity. The
# copy of a download may be older than the download.
_SAME = "behind"
_COPY = "(shutil.copytree(path, copy, dirs_exist_ok=True), copy)[1]"


def run(script: str, tmp_path: Path) -> str:
    """Run a script in a mount namespace of its own. Returns what it prints."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    paths = [tmp_path / name for name in ("volume", "behind", "copy")]
    for path in paths:
        path.mkdir()
    namespace = ["unshare", "--mount", "--propagation", "private"]
    probe = subprocess.run([*namespace, "mount", "--bind", *paths[:2]], check=False)
    if probe.returncode != 0:
        pytest.skip("nothing can be mounted here")
    result = subprocess.run(
        [*namespace, sys.executable, "-c", _BEGIN + script, *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_volume_that_was_mounted_again_is_used(tmp_path: Path) -> None:
    printed = run(_READ_ONLY, tmp_path)
    assert "Read-only file system" in printed
    assert printed.splitlines()[-1] == "well"


@pytest.mark.parametrize("script", [_DURING_A_DOWNLOAD, _BETWEEN_SMALL_BLOBS_AND_THEIR_FSYNC])
def test_bytes_are_stored_on_the_volume_that_was_mounted_again(script: str, tmp_path: Path) -> None:
    assert run(script.format(directory=_SAME), tmp_path) == "stored True\n"


@pytest.mark.parametrize("script", [_DURING_A_DOWNLOAD, _BETWEEN_SMALL_BLOBS_AND_THEIR_FSYNC])
def test_nothing_is_stored_if_another_filesystem_was_mounted_in_between(
    script: str, tmp_path: Path
) -> None:
    printed = run(script.format(directory=_COPY), tmp_path)
    assert "Another filesystem was mounted as the volume" in printed
