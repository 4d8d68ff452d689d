"""`python -m textattn`, and the command `textattn`."""

import atexit
import os
import sys

from textattn.cli import main


def run() -> None:
    """Run the command line and end the process."""
    main()
    # Only a successful command reaches this line; all others raise SystemExit. A regular shutdown of the interpreter
    # would take about a third of the time of a whole prediction, so only the registered exit functions are run.
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    run()
