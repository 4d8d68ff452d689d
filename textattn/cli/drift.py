"""`textattn drift`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from textattn.cli.answers import open_model
from textattn.cli.console import note, out, out_json, table, waiting
from textattn.cli.options import Device, Json, Model, Quiet, Runtime
from textattn.errors import CheckFailed, ConfigError, InputError, Option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from textattn.inference.classifier import Classifier
    from textattn.measure.drift import DriftReport, Reference

LABELS_SHOWN = 10


def drift(  # noqa: PLR0913 (every option of a command is a parameter)
    input: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="FILE", help="The new texts, as for predict; - for stdin."),
    ] = None,
    model: Model = None,
    text_column: Annotated[
        list[str] | None,
        typer.Option("--text-column", metavar="NAME", help="Column of --input; default: as in training."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference", metavar="FILE", help="Texts to compare with; default: the validation split of the model."
        ),
    ] = None,
    input_format: Annotated[
        str | None, typer.Option("--input-format", metavar="FORMAT", help="Default: by the suffix; txt for stdin.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", metavar="NAME", help="Encoding of the files; default: recognised.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 4 if there is drift.")] = False,
    json: Json = False,
    device: Device = "cpu",
    runtime: Runtime = None,
    quiet: Quiet = False,
) -> None:
    """Say whether new texts are like those of validation.

    \b
    textattn drift --input new.csv
    textattn drift --model runs/tickets --input 'march/*.csv' --json
    textattn drift --input new.csv --check || echo "look at the model"

    No labels are needed. Compared with the validation split are the answers, their scores, the lengths of the texts,
    the share of unknown tokens and the share of the words that carry the answers. A difference is drift if it is more
    than chance (p <= 0.05 after Holm's correction) and not small: an effect of at least 0.1, where 1 is the largest
    there is. Drift says that the figures of the model may no longer hold, and not that they do not.
    """
    if not input:
        raise ConfigError("no texts are given", Option("input", "new.csv"), setting=Option("input"))
    if input_format is not None:
        from textattn.cli.predict import _check_format

        _check_format("--input-format", input_format)
    classifier = open_model(model, device, runtime)
    from textattn.inference.observed import observed
    from textattn.measure.drift import Drift

    columns = text_column or classifier.config.text_columns
    how = _Files(input_format, encoding, columns, bool(text_column))
    before = _reference(classifier, reference, how)
    now = Drift(before)
    with waiting("Answering the texts …"):
        for texts in _texts(input, how):
            tokens = classifier.tokenizer.encode(texts)
            now.update(observed(classifier, tokens, classifier.probabilities(tokens), before.carriers))
    report = now.report()
    words = {token: str(classifier.tokenizer.backend.id_to_token(token)) for token, _, _ in report.words}
    if json:
        out_json(report.to_json(classifier.labels, words), indent=True)
    else:
        _print(report, classifier.labels, words)
    if check and report.drifted:
        raise CheckFailed(f"the texts have drifted: {', '.join(report.drifted)}")


@dataclass(frozen=True)
class _Files:
    """How files with texts are read."""

    format: str | None
    encoding: str | None
    columns: list[str]
    """The columns with the text."""
    are_named: bool
    """Whether the user named them."""


def _texts(files: list[str], how: _Files) -> Iterator[list[str]]:
    """The texts of files in groups; rows without text are left out, and a note says how many.

    Raises:
        InputError: a file cannot be read, or there is no text at all.
    """
    from textattn.cli.texts import input_files, open_tables
    from textattn.data.chunks import read_chunks
    from textattn.data.formats import ReadOptions

    skipped = total = 0
    with open_tables(input_files(files), how.format, ReadOptions(how.encoding)) as tables:
        plain = not how.are_named and all(table.columns == ["text"] for table in tables)
        for table in tables:
            for chunk in read_chunks(table, ["text"] if plain else how.columns):
                skipped += len(chunk.problems)
                total += len(chunk)
                if chunk.texts:
                    yield chunk.texts
    if not total:
        raise InputError("there is no text", place=", ".join(files))
    if skipped:
        note(f"{skipped:,} of {total + skipped:,} rows have no text and were left out", "Note")


def _reference(classifier: Classifier, files: list[str] | None, how: _Files) -> Reference:
    """What the new texts are compared with.

    Raises:
        InputError: the model has no reference, and its data cannot be read or have no validation split.
    """
    from textattn.inference.evaluation import load_split, training_config
    from textattn.inference.observed import read_reference, reference_of

    found = None if files else read_reference(classifier)
    if found is not None:
        return found
    name = "validation"
    if files:
        texts: Iterable[str] = (text for group in _texts(files, how) for text in group)
        name = ", ".join(files)
    else:
        other = Option("reference", "earlier.csv")
        if training_config(classifier) is None:
            raise InputError("the model has no validation figures to compare with", other, place=str(classifier.path))
        try:
            texts = load_split(classifier, None, name, {}, note)
        except InputError as error:
            raise InputError(error.problems, other) from None
    tokens = classifier.tokenizer.encode(texts)
    return reference_of(classifier, tokens, classifier.probabilities(tokens), name)


def _print(report: DriftReport, labels: Sequence[str], words: Mapping[int, str]) -> None:
    from textattn.measure.drift import MEANINGS

    out(report.verdict())
    out("")
    rows = [
        (MEANINGS[name], _number(one.before), _number(one.now), f"{one.effect:.3f}", _p(one.p_adjusted), one.size)
        for name, one in report.differences.items()
    ]
    for line in table(rows, ("figure", "before", "now", "effect", "p", "difference")):
        out(line)
    before, now = report.label_shares
    changes = sorted(range(len(labels)), key=lambda i: -abs(before[i] - now[i]))[
        : LABELS_SHOWN if len(labels) > 1 else 0
    ]
    if len(labels) > 1:
        out("")
    for line in table([(labels[i], f"{before[i]:.1%}", f"{now[i]:.1%}") for i in changes], ("label", "before", "now")):
        out(line)
    if report.words:
        out("")
        shown = [(words[token], f"{a:.1%}", f"{b:.1%}") for token, a, b in report.words]
        for line in table(shown, ("word in texts", "before", "now")):
            out(line)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"
