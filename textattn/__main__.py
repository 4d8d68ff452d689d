"""`python -m textattn`, and the command `textattn`."""

import atexit
import contextlib
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
    code: object = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    interrupts.ignore()
    # A regular shutdown of the interpreter would take about a third of the time of a whole prediction, and it would not
    # be safe from Ctrl-C, so only the registered exit functions are run.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    run()
