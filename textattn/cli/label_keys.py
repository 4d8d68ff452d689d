"""Which key gives which label, and what a typed answer means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from textattn.cli.keyboard import END, ENTER
from textattn.data.label_file import SEPARATOR
from textattn.data.look_alikes import NO_LABELS, folded

SKIP, UNDO, QUIT, NEW, FULL, HELP = "s", "u", "q", "n", "f", "?"
COMMANDS = {SKIP: "skip", UNDO: "undo", QUIT: "quit", NEW: "new label", FULL: "full text", HELP: "help"}
# Commands that a typed line can also spell out.
WORDS = {"skip": SKIP, "undo": UNDO, "quit": QUIT, "exit": QUIT, "help": HELP, END: QUIT}
FREE_KEYS = [key for key in "123456789abcdefghijklmnopqrstuvwxyz" if key not in COMMANDS]


@dataclass
class LabelKeys:
    """The labels that can be given, each with its key where there are enough keys."""

    labels: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    """Key -> label."""

    def add(self, labels: Iterable[str]) -> None:
        """More labels. A label that is itself one character long, such as 4, gets that key."""
        new = [label for label in dict.fromkeys(labels) if label not in self.labels]
        self.labels += new
        for label in new:
            if label in FREE_KEYS and label not in self.keys:
                self.keys[label] = label
        for label in new:
            if label not in self.keys.values():
                key = next((key for key in FREE_KEYS if key not in self.keys), None)
                if key is not None:
                    self.keys[key] = label

    def find(self, typed: str) -> str | None:
        """The label that a key or a name stands for; None if there is none. A name comes before a key."""
        return self.named(typed) or self.keys.get(typed)

    def named(self, name: str) -> str | None:
        """The label of that name, or the one that differs from it only in case, white space and the like."""
        if name in self.labels:
            return name
        return next((label for label in self.labels if folded(label) == folded(name)), None)

    def line(self) -> str:
        """All labels with their keys, in the order of the keys."""
        with_keys = sorted(self.keys, key=FREE_KEYS.index)
        rest = [label for label in self.labels if label not in self.keys.values()]
        return "  ".join([f"[{key}] {self.keys[key]}" for key in with_keys] + [f"[{NEW}] {label}" for label in rest])


def command_of(typed: str) -> str | None:
    """The command that a key or a word stands for: a key of COMMANDS, ENTER, or None if it is none."""
    if typed == ENTER or typed in COMMANDS:
        return typed
    return WORDS.get(typed)


def problem_of_label(name: str, several: bool) -> str | None:
    """Why a name cannot be that of a label; None if it can."""
    if not name:
        return "a label needs a name"
    if name.casefold() in NO_LABELS or name == "-1":
        return f"{name!r} stands for a missing label in data files; choose another name"
    if several and SEPARATOR in name:
        return f"the name of a label must not contain {SEPARATOR}, which stands between several labels"
    return None
