"""The reconciler of the embedded stack, started after the servers so as not to delay them."""

import os

from shared.settings import Settings
from workers import logs
from workers.embedded.state import StackHome
from workers.reconciler.reconciler import reconcile


def main() -> None:
    """Run the reconciler until the process is killed."""
    os.environ.update(StackHome.below(Settings.read().home).read().environment)
    settings = Settings.read()
    logs.log_to_stderr(settings.log_format)
    reconcile(settings)


if __name__ == "__main__":
    main()
