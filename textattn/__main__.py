"""`python -m textattn`, and the command `textattn`."""

import atexit
import os
import sys

from textattn.cli import main


def run() -> None:
    """Runs the command line and ends the process."""
    main()
    # Only what went well comes to this line, everything else raises SystemExit. Taking the libraries apart in good
    # order would take as long as a third of a whole answer; what they asked to be done at the end is done.
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    run()
