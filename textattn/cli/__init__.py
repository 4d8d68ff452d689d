"""The command line: one file a command. The only place that prints."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time

from textattn.cli import interrupts
from textattn.cli.console import is_debug, note, print_error, print_trace, tolerate_encodings
from textattn.cli.quick import run_quickly
from textattn.cli.shortages import shortage
from textattn.errors import ConfigError, Elsewhere, InputError, TextattnError
from textattn.storage import hub

# What the system does not let us do with a file, wherever we ask for it.
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP)
ISSUES = "https://github.com/textattn/textattn/issues"
# In the words of torch.
# Of the process that says what is wrong, while the others of the same training wait.
SECONDS_TO_SPEAK = 5.0


def main() -> None:
    """Runs the command line; comes back only when all went well, else ends the process with its exit code."""
    for name in ("stdout", "stderr"):
        # Closed by whoever started us: what is said there is lost, and nothing else.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 (as long as the process)
    tolerate_encodings()
    hub.on_read(lambda text: note(text, "Note"))
    # On Linux, torch then puts large tensors on huge pages, and a training step waits less for memory. Torch reads the
    # variable when it is loaded.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        if not run_quickly(sys.argv[1:]):
            from textattn.cli.app import app

            try:
                app(prog_name="textattn")
            except SystemExit as stop:
                if stop.code:
                    raise
        # What comes after this may end the process at once, and a full disk is to be noticed here.
        sys.stdout.flush()
    except TextattnError as error:
        if isinstance(error, Elsewhere):
            # torchrun ends all as soon as it sees that one has ended: that must be the one with the message.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(SECONDS_TO_SPEAK)
        else:
            _trace()
            print_error(error)
            # All is said; what torchrun sends the others of a training need not interrupt the end of this one.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(interrupts.EXIT_CODE)
    except BrokenPipeError:
        # `| head` has seen enough.
        _end_stdout()
        sys.exit(1)
    except Exception as error:
        _trace()
        if interrupts.has_come():  # and a library has made another error of it
            sys.exit(interrupts.EXIT_CODE)
        if isinstance(error, OSError) and error.errno in NOT_OURS and isinstance(error.filename, str):
            print_error(InputError(f"{error.filename}: {error.strerror}"))
            sys.exit(InputError.exit_code)
        if (known := shortage(error)) is not None:
            _end_stdout()
            print_error(known)
            sys.exit(known.exit_code)
        if isinstance(error, ValueError) and "embedded null" in str(error):
            print_error(ConfigError("a path must not contain the character NUL (\\0)"))
            sys.exit(ConfigError.exit_code)
        report = (
            "report what is printed above"
            if is_debug()
            else "run it again as `textattn --debug …` and report what it prints"
        )
        print_error(TextattnError(f"{type(error).__name__}: {error}", f"this is a bug: {report} at {ISSUES}"))
        sys.exit(1)


def _trace() -> None:
    """With --debug, shows where the error that is being handled was raised."""
    if is_debug():
        print_trace()


def _end_stdout() -> None:
    """What is left in the buffer cannot be written: Python must not try again when it ends."""
    with contextlib.suppress(OSError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
