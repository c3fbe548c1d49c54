"""`python -m workers.cli` runs `towline`."""

from workers.cli import main

main()
