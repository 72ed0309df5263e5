"""The command line: `sweepd`, one file per subject.

Exit codes: 0 fine, 1 the study (or something of ours) failed, 2 usage or spec error, 3 the store
or its coordinator cannot be reached, 128 + the signal's number when a signal ended it (Ctrl-C: 130).
"""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code."""
    from sweepd.cli.app import app

    app(prog_name="sweepd")
