"""The reconciler of the embedded stack, started after the servers so as not to delay them."""

import os
import sys
from pathlib import Path

from shared.settings import Settings
from workers.embedded.state import StackHome
from workers.process import logs
from workers.reconciler.reconciler import reconcile


def main() -> None:
    """Run the reconciler until the process is killed. Argument: a file to touch in each round."""
    os.environ.update(StackHome.below(Settings.read().home).read().environment)
    settings = Settings.read()
    logs.log_to_stderr(settings.log_format)
    reconcile(settings, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
