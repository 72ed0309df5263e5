"""`python -m sweepd` is `sweepd`."""

from sweepd.cli import main

main()
