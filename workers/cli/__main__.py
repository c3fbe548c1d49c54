"""`python -m workers.cli` is `towline`."""

from workers.cli import main

main()
