"""`textattn label`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textattn.cli.answers import open_model
from textattn.cli.console import note, waiting
from textattn.cli.options import Device, Model, Quiet, Runtime
from textattn.errors import ConfigError, Option, TextattnError

if TYPE_CHECKING:
    from textattn.cli.labelling import Kind, Labelling
    from textattn.inference.classifier import Classifier
    from textattn.inference.label_order import Order, Pool

# Texts that are chosen together.
PORTION = 100


def label(  # noqa: PLR0913 (every option of a command is a parameter)
    pool: Annotated[str, typer.Argument(metavar="POOL", help="File with texts: txt, csv, jsonl, parquet, …")],
    model: Model = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="csv or jsonl; default: POOL with .labelled.csv at its end."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="NAMES",
            help="Labels to choose from, with commas between them. Without --model, no model is used.",
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            "--order",
            metavar="useful|file|random",
            help="Which texts come first; default: useful with a model, else file.",
            show_default=False,
        ),
    ] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Without a model: a text may have several labels, or none.")
    ] = False,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Without a model: the answer to a text is a number.")
    ] = False,
    text_column: Annotated[
        list[str] | None,
        typer.Option("--text-column", metavar="NAME", help="Column of POOL; default: as in training, or text."),
    ] = None,
    device: Device = "cpu",
    runtime: Runtime = None,
    quiet: Quiet = False,
) -> None:
    """Label texts by hand, one after the other.

    \b
    textattn label pool.csv
    textattn label pool.csv --labels negative,positive
    textattn label pool.csv --model runs/mine/2026-01-01T00-00-00 --output more.csv

    Shows a text with the model's guess and the words that led to it. A key gives a label, Enter accepts the guess, s
    skips, u takes the last answer back, q quits, ? lists all keys. Every answer is saved at once, and the same command
    goes on where it stopped. What was labelled is trained on with `textattn train`.

    If stdin is no terminal, each of its lines is an answer: a key, the name of a label, or nothing to accept the guess.
    """
    from textattn.cli.keyboard import answers
    from textattn.cli.label_keys import LabelKeys
    from textattn.cli.labelling import Labelling
    from textattn.cli.texts import input_files, open_tables
    from textattn.data.formats import ReadOptions
    from textattn.data.label_file import LabelFile
    from textattn.inference.label_order import ORDERS, Pool

    names = [name.strip() for name in labels.split(",")] if labels is not None else []
    without = [name for name, given in (("--multi-label", multi_label), ("--numbers", numbers)) if given]
    if len(without) > 1 or (numbers and names):
        raise ConfigError("--numbers does not go with labels", "textattn label pool.csv --numbers")
    if order is not None and order not in ORDERS:
        raise ConfigError(
            f"must be one of {', '.join(ORDERS)}, got {order!r}", Option("order", "random"), setting=Option("order")
        )
    if pool == "-":
        raise ConfigError("the texts must be in a file, because answers are read from stdin", "textattn label pool.csv")
    with open_tables(input_files([pool]), None, ReadOptions()) as tables:
        classifier = _model(model, device, runtime, use_newest=labels is None and not without)
        if classifier is None and order == "useful":
            raise ConfigError("only a model can say what is useful", Option("order", "random"), setting=Option("order"))
        if classifier is not None and without:
            raise ConfigError(f"the model says what an answer is; leave out {without[0]}")
        if classifier is not None and classifier.task.answer == "number" and names:
            raise ConfigError("the model predicts a number, and there are no labels", "leave it out",
                              setting=Option("labels"))  # fmt: skip
        columns = text_column or (classifier.config.text_columns if classifier else ["text"])
        if not text_column and all(table.columns == ["text"] for table in tables):
            columns = ["text"]
        kind: Kind = "several" if multi_label else "number" if numbers else "one"
        if classifier is not None:
            kind = classifier.task.answer
        _check_names(names, kind)
        path = output or _default_output(Path(pool), several=kind == "several")
        if path.exists() and path.samefile(pool):
            raise ConfigError(f"{path} is the pool itself", Option("output", "labelled.csv"), setting=Option("output"))
        texts = Pool(tables, columns)
        total, problems = _counted(texts)
        for problem in problems:
            note(f"{problem}; left out", "Warning")
        file = LabelFile(path, columns if len(columns) > 1 else ["text"], kind == "several")
        with file.owned(), answers() as given:
            if file.cut_short:
                note(f"{path}: the last row was incomplete, and its text is asked again", "Note")
            keys = LabelKeys()
            if kind != "number":
                keys.add([*(classifier.labels if classifier else []), *names, *file.labels()])
            session = Labelling(file, kind, keys, given, total, classifier)
            _run(session, texts, _order(order, classifier))


def _run(session: Labelling, pool: Pool, order: Order) -> None:
    """The dialogue, and at its end, however it comes, what was saved."""
    from textattn.inference.label_order import next_texts
    from textattn.inference.most_useful import Labelled, labelled_or_note

    file, own = session.file, Labelled()
    if session.classifier is not None and order == "useful":
        own, problem = labelled_or_note(session.classifier)
        if problem is not None:
            note(problem, "Note")

    def following() -> list[str]:
        with waiting("Choosing texts …"):
            known = own.and_also(row.text for row in file.rows)
            return next_texts(pool, order, PORTION, session.done, session.classifier, known)

    try:
        if session.run(following):
            note("No text is left")
    except BrokenPipeError:
        raise  # of stdout
    except OSError as error:
        raise TextattnError(
            f"cannot be written ({error.strerror or error}); what was labelled before is kept",
            "free some space there, then run the same command again",
            place=str(file.path),
        ) from None
    finally:
        note(f"{file.added:,} labelled now, {len(file.rows):,} in all: {file.path}")
        if len(file.labels()) > 1:
            note(f"To train on them:\n  {_training(session)}")


def _training(session: Labelling) -> str:
    file = session.file
    has_order = session.classifier is not None and session.classifier.task.output == "ordinal"
    settings = ["task=regression"] if session.kind == "number" else ["task=ordinal"] if has_order else []
    if has_order and session.classifier is not None:
        from textattn.tasks.ordinal import check_order

        names = session.classifier.labels
        try:
            check_order(names, named=False)
        except ConfigError:
            settings.append(f"data.label_names={json.dumps(names, ensure_ascii=False)}")
    settings += [f"data.text=[{','.join(file.columns)}]"] if len(file.columns) > 1 else []
    # Training refuses a separator that separates nothing.
    if file.is_csv and any(len(row.labels) > 1 for row in file.rows):
        settings.append("data.label_separator=;")
    return shlex.join(["textattn", "train", str(file.path), *settings])


def _check_names(names: list[str], kind: Kind) -> None:
    from textattn.cli.label_keys import problem_of_label

    for name in names:
        problem = problem_of_label(name, several=kind == "several")
        if problem is not None:
            raise ConfigError(problem, Option("labels", "negative,positive"), setting=Option("labels"))


def _model(model: str | None, device: str, runtime: str | None, *, use_newest: bool) -> Classifier | None:
    """The model of --model or $TEXTATTN_MODEL; else the newest run, if it is to be used and there is one."""
    from textattn.storage.find_model import finished_runs, given_name

    if model or (use_newest and (given_name(None) or finished_runs())):
        return open_model(model, device, runtime)
    return None


def _order(order: str | None, classifier: Classifier | None) -> Order:
    from textattn.inference.label_order import ORDERS

    default: Order = "useful" if classifier is not None else "file"
    return next((known for known in ORDERS if known == order), default)


def _default_output(pool: Path, *, several: bool) -> Path:
    """Beside the pool. Several labels are a list in jsonl, which training reads without a setting."""
    from textattn.data.formats import COMPRESSED

    plain = pool.with_suffix("") if pool.suffix.lower() in COMPRESSED else pool
    return pool.with_name(f"{plain.stem}.labelled.{'jsonl' if several else 'csv'}")


def _counted(pool: Pool) -> tuple[int, list[str]]:
    """The number of rows, and what is wrong with the first of those that have no text."""
    total, bad, problems = 0, 0, []
    for row in pool.rows():
        total += 1
        if not isinstance(row, str):
            bad += 1
            if bad <= 10:
                problems.append(str(row))
    if bad > len(problems):
        problems.append(f"{bad - len(problems):,} more rows have no text")
    return total - bad, problems
