"""The dialogue of `textattn label`: it shows a text, takes an answer and saves it, text after text."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from textattn.cli.console import flush, out, out_lines
from textattn.cli.explanations import Display, print_explanation
from textattn.cli.keyboard import ENTER, Answers
from textattn.cli.label_keys import COMMANDS, FULL, HELP, NEW, QUIT, SKIP, UNDO, LabelKeys, command_of, problem_of_label
from textattn.data.label_file import LabelFile, LabelledRow
from textattn.inference.most_useful import digest
from textattn.inference.visible import one_line

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation
    from textattn.inference.classifier import Classifier

Kind = Literal["one", "several", "number"]
# Lines of a terminal that stay free for the question when a text is shown.
LINES_FOR_QUESTION = 8
RULE = 60


@dataclass
class Guess:
    """What a model says about a text."""

    labels: list[str]
    explanation: Explanation


@dataclass
class Labelling:
    """A session with one file of labels."""

    file: LabelFile
    kind: Kind
    """Whether the answer to a text is one label, any number of labels, or a number."""
    keys: LabelKeys
    answers: Answers
    total: int
    """Rows of the pool."""
    classifier: Classifier | None = None
    done: set[int] = field(default_factory=set)
    """The digests of the texts that are labelled, or were skipped in this session."""
    skipped: int = 0
    _history: list[tuple[str, bool]] = field(default_factory=list)
    """The texts that were answered in this session, and whether they were skipped."""

    def run(self, next_texts: Callable[[], list[str]]) -> bool:
        """Ask until there is nothing left or the person has enough; says whether nothing is left.

        Args:
            next_texts: gives texts that are not in `done`; none at the end.
        """
        self.done |= {digest(row.text) for row in self.file.rows}
        waiting: list[str] = []
        if self.answers.reads_keys:
            self._help()
        while True:
            if not waiting:
                waiting = next_texts()[::-1]
                if not waiting:
                    return True
            text = waiting.pop()
            if digest(text) in self.done:
                continue
            command = self._ask(text)
            if command == QUIT:
                return False
            if command == UNDO:
                waiting.append(text)
                self._undo(waiting)

    def _ask(self, text: str) -> str | None:
        """Show a text and deal with the answers to it; gives QUIT or UNDO, or None when it is answered."""
        guess = self._guess(text)
        self._show(text, guess, full=False)
        chosen = set(guess.labels) if guess is not None and self.kind == "several" else set()
        while True:
            self._prompt(guess, chosen)
            typed = self._typed()
            # The name of a label comes before a word such as help, but not before a key.
            command = None if len(typed) > 1 and self.keys.named(typed) else command_of(typed)
            if command in (QUIT, UNDO):
                return command
            if command == SKIP:
                self._history.append((text, True))
                self.skipped += 1
                self.done.add(digest(text))
                return None
            if command == HELP:
                self._help()
            elif command == FULL:
                self._show(text, guess, full=True)
            elif command == ENTER and self.kind == "several":
                self._save(text, [label for label in self.keys.labels if label in chosen])
                return None
            elif command == ENTER:
                if guess is not None:
                    self._save(text, guess.labels)
                    return None
                out("There is no guess to accept; choose a label.")
            elif self.kind == "number":
                number = _number(typed)
                if number is not None:
                    self._save(text, [number])
                    return None
                out(_no_number(typed))
            else:
                labels = self._labels(typed, command == NEW)
                if self.kind == "one" and labels:
                    self._save(text, labels)
                    return None
                chosen ^= set(labels)

    def _typed(self) -> str:
        if self.kind == "number" and self.answers.reads_keys:
            line = self.answers.line("> ")
            return "quit" if line is None else line or ENTER
        return self.answers.key()

    def _labels(self, typed: str, is_new: bool) -> list[str]:
        """The labels that were typed: by a key, or by names; none where they are not understood, which is said."""
        several = self.kind == "several"
        if is_new or typed.startswith(f"{NEW} "):
            name = self.answers.line("label: ") if is_new else typed[2:].strip()
            known = self.keys.named(name or "")
            if known is None:
                problem = problem_of_label(name or "", several)
                if problem is not None or name is None:
                    out(f"No label was given: {problem}.")
                    return []
                self.keys.add([name])
                out(f"New label: {name}")
            return [known or name or ""]
        found = []
        for part in [typed] if not several or self.keys.find(typed) else typed.replace(",", " ").split():
            label = self.keys.find(part)
            if label is None:
                hint = f"{NEW} {part} makes it one" if len(part) > 1 else f"{HELP} lists what can be typed"
                out(f"{part!r} is no label here; {hint}.")
                return []
            found.append(label)
        return found

    def _save(self, text: str, labels: list[str]) -> None:
        self.file.add(LabelledRow(text, labels))
        self._history.append((text, False))
        self.done.add(digest(text))

    def _undo(self, waiting: list[str]) -> None:
        """Take back the last answer of this session; its text is asked again."""
        if not self._history:
            out("There is nothing to undo in this session.")
            return
        text, was_skipped = self._history.pop()
        if was_skipped:
            self.skipped -= 1
        else:
            self.file.remove_last()
        self.done.discard(digest(text))
        waiting.append(text)

    # What is shown

    def _guess(self, text: str) -> Guess | None:
        if self.classifier is None:
            return None
        from textattn.explain.explanations import AnsweredTexts, Question

        explanation = AnsweredTexts.of(self.classifier, [text]).explain(Question())[0]
        answer = explanation.prediction
        if self.kind == "several":
            return Guess(answer.labels, explanation)
        if self.kind == "number":
            return Guess([answer.line().split("\t")[0]], explanation)
        return Guess([answer.label], explanation)

    def _show(self, text: str, guess: Guess | None, *, full: bool) -> None:
        labelled = f"{len(self.file.rows):,} labelled"
        skipped = f", {self.skipped:,} skipped" if self.skipped else ""
        out_lines("\n" + "-" * min(shutil.get_terminal_size().columns, RULE))
        out(f"{labelled}{skipped}; the pool has {self.total:,} rows")
        out("")
        if guess is not None:
            print_explanation(guess.explanation, Display(words=0, full=full), self.kind == "several", None)
        else:
            out_lines(text if full or not sys.stdout.isatty() else fitting(text))

    def _prompt(self, guess: Guess | None, chosen: set[str]) -> None:
        out("")
        if self.kind == "several":
            given = ", ".join(label for label in self.keys.labels if label in chosen) or "none"
            accept = f"Enter saves: {given}"
        else:
            accept = f"Enter: {guess.labels[0]}" if guess is not None else ""
        parts = ["a number" if self.kind == "number" else self.keys.line(), accept]
        out(one_line("   ".join(part for part in parts if part) or f"{NEW}: name the first label"))
        flush()

    def _help(self) -> None:
        what = {
            "one": "A key gives the label with that key.",
            "several": "A key adds the label with that key or takes it away; Enter saves the labels chosen.",
            "number": "Type the number and Enter.",
        }[self.kind]
        commands = "  ".join(f"{key} {name}" for key, name in COMMANDS.items() if self.kind != "number" or key != NEW)
        out(f"{what} Every answer is saved at once.")
        out(f"Enter accepts the guess.  {commands}" if self.classifier is not None else commands)
        flush()


def fitting(text: str) -> str:
    """A text with its middle left out if it has more lines than a terminal has room for."""
    size = shutil.get_terminal_size()
    room = size.columns * max(3, size.lines - LINES_FOR_QUESTION)
    lines = sum(max(1, -(-len(line) // size.columns)) for line in text.split("\n"))
    if lines * size.columns <= room:
        return text
    words = text.split()
    kept = room // 2
    start = text[:kept].rsplit(None, 1)[0] if kept < len(text) else text
    end = text[-(kept // 2) :].split(None, 1)[-1]
    start = "\n".join(start.split("\n")[: size.lines - LINES_FOR_QUESTION])
    left_out = len(words) - len(start.split()) - len(end.split())
    return f"{start} [… {left_out} words, f shows them …] {end}" if left_out > 0 else text


def _number(typed: str) -> str | None:
    """The number that was typed, as it is saved; None if it is none, or may mean two numbers, such as 1.234."""
    from textattn.data.numbers import one_number

    number = one_number(typed)
    return None if number is None else f"{number:.15g}"


def _no_number(typed: str) -> str:
    from textattn.data.numbers import may_be_two

    if may_be_two(typed):
        plain, thousands = typed.replace(",", "."), typed.replace(",", "").replace(".", "")
        return f"{typed!r} may mean {float(plain):g} or {thousands}; write one of them so that it is clear."
    return f"{typed!r} is no number."
