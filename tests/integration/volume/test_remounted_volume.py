"""A volume that is mounted again, in a mount namespace of its own: as root, with `unshare`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# The volume becomes read-only under an open Volume, then is mounted again: the same directory of
# the same filesystem, so device and inode are equal all the time.
_REMOUNT = """
import subprocess
import sys
from pathlib import Path
from uuid import uuid4
from shared.errors import VolumeUnavailable
from shared.volume.identity import prepare
from shared.volume.store import Volume

path, behind = map(Path, sys.argv[1:])
volume = Volume(path, prepare(path, None))

def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)

mount("--bind", path, behind)
mount("--bind", path, path)
mount("-o", "remount,ro,bind", path)
try:
    volume.probe()
    raise SystemExit("It wrote to a read-only mount.")
except VolumeUnavailable as error:
    print(error)
subprocess.run(["umount", "-l", path], check=True)
mount("--bind", behind, path)
volume.probe()
print("well")
"""


def test_a_volume_that_was_mounted_again_is_used(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    volume, behind = tmp_path / "volume", tmp_path / "behind"
    volume.mkdir()
    behind.mkdir()
    namespace = ["unshare", "--mount", "--propagation", "private"]
    probe = subprocess.run([*namespace, "mount", "--bind", volume, behind], check=False)
    if probe.returncode != 0:
        pytest.skip("nothing can be mounted here")
    result = subprocess.run(
        [*namespace, sys.executable, "-c", _REMOUNT, volume, behind],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Read-only file system" in result.stdout
    assert result.stdout.splitlines()[-1] == "well"
