"""The reconciler of the embedded stack, started when the servers answer: it delays nobody."""

import os

from shared.settings import Settings
from workers import logs
from workers.reconciling.process import reconcile
from workers.stack.state import StackHome


def main() -> None:
    """Look after the stack's pulls until the end."""
    os.environ.update(StackHome.below(Settings.read().home).read().environment)
    settings = Settings.read()
    logs.log_to_stderr(settings.log_format)
    reconcile(settings)


if __name__ == "__main__":
    main()
