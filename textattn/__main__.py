"""`python -m textattn`, and the command `textattn`."""

import atexit
import os
import signal
import sys

try:
    from textattn.cli import console, interrupts, main
except KeyboardInterrupt:  # so early that nothing has begun
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(128 + signal.SIGINT)


def run() -> None:
    """Run the command line and end the process."""
    interrupts.install()
    console.tolerate_full_stderr()
    try:
        main()
    finally:
        interrupts.ignore()
    # Only a successful command reaches this line; all others raise SystemExit. A regular shutdown of the interpreter
    # would take about a third of the time of a whole prediction, so only the registered exit functions are run.
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    run()
