"""`python -m textattn`, and the command `textattn`."""

import os

from textattn.cli import main


def run() -> None:
    """Runs the command line and ends the process."""
    main()
    # Only answers come to this line, everything else raises SystemExit. Taking the libraries apart in good order would
    # take as long as a third of the whole answer.
    os._exit(0)


if __name__ == "__main__":
    run()
