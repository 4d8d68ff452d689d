"""Cache the tokenised data of a run, so that the next run with the same data starts quickly."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from textattn.config.data_section import DataConfig
from textattn.config.schema import Config
from textattn.data.evidence import Spans
from textattn.data.read import Corpus, Split
from textattn.data.row_info import RowInfo
from textattn.data.sources import Tables, source_files, sources
from textattn.data.texts import Texts
from textattn.errors import InputError
from textattn.inference.earlier_data import EarlierData, content_tables
from textattn.report import Report
from textattn.storage import cache
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.tokenizer import TextTokenizer
from textattn.tokens.train_tokenizer import pretrained_content

KIND = "data"
FACTS = "corpus.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


class Tokenised(NamedTuple):
    """The data of a run in the form in which they are cached."""

    corpus: Corpus
    tokenizer: TextTokenizer
    tokens: dict[str, TokenArrays]
    """By split."""


def key_of(
    config: Config,
    opened: list[Tables | None],
    models: list[str | None],
    earlier: EarlierData | None,
) -> str | None:
    """Compute the key of the tokenised data of a config; None if the content of the data cannot be identified.

    Args:
        config: the config of the run.
        opened: the result of `open_hub`; data sets from the Hub are identified by their fingerprints from `datasets`.
        models: the fingerprints of the model that labels texts and of the model that the run goes on from.
        earlier: the data that this model was trained on.
    """
    tokenizer = config.tokenizer
    data = [(config.data, opened), *([] if earlier is None else content_tables(earlier))]
    contents = [_content(*one) for one in data]
    if None in contents:
        return None
    is_read = tokenizer.type == "pretrained" and config.start.model is None
    pretrained = pretrained_content(tokenizer).decode("utf-8", "replace") if is_read else None
    # The recipe may set all settings that are not given.
    given: list[Any] | None = None if config.recipe == "plain" else [config.recipe, sorted(tokenizer.model_fields_set)]
    if given is not None and config.model.linear == "only":
        given.append(config.model.linear)  # the recipe then lets texts be longer
    return cache.key_of(
        config.data.model_dump(), tokenizer.model_dump(), given, config.seed, contents, pretrained, models,
        config.task == "regression",
        config.start.model_dump(), None if earlier is None else earlier.to_json(),
    )  # fmt: skip


def _content(data: DataConfig, opened: list[Tables | None]) -> list[Any] | None:
    """What tells whether the files of a data set are the same; None if nothing does."""
    content: list[Any] = []
    for source, tables in zip(sources(data), opened, strict=True):
        if tables is None:
            try:
                files = source_files(source)
                # In a folder the names tell the splits.
                content.append([[str(file) for file in files], cache.content_of(files)])
            except OSError:
                return None
        elif any(table.fingerprint is None for t in tables.values() for table in t):
            return None
        else:
            named = sorted(tables.items())
            content.append([[name, [[table.revision, table.fingerprint] for table in t]] for name, t in named])
    return content


def load(key: str | None, report: Report) -> Tokenised | None:
    """Load the data that `save` stored under this key; None if there is no such entry or it is damaged."""
    entry = None if key is None else cache.find(KIND, key, report.note)
    if entry is None:
        return None
    try:
        facts = json.loads((entry / FACTS).read_text(encoding="utf-8"))
        splits = {name: _load_split(entry, name, evidence) for name, evidence in facts.pop("evidence").items()}
        unlabelled = [Texts.open(entry / f"unlabelled{i}.arrow") for i in range(facts.pop("num_unlabelled"))]
        tokens = {
            name: TokenArrays.open(entry / f"{name}.ids", np.load(entry / f"{name}.starts.npy"), *counts)
            for name, counts in facts.pop("tokens").items()
        }
        tokenizer = TextTokenizer.from_files(
            (entry / TOKENIZER).read_bytes(), (entry / TOKENIZER_CONFIG).read_bytes(), str(entry)
        )
        corpus = Corpus(
            train=splits["train"],
            validation=splits.get("validation"),
            test=splits.get("test"),
            unlabelled=unlabelled,
            **facts,
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, pa.ArrowException, InputError):
        cache.remove(entry)
        return None
    return Tokenised(corpus, tokenizer, tokens)


def _load_split(entry: Path, name: str, has_evidence: bool) -> Split:
    evidence: list[Spans | None] | None = None
    if has_evidence:
        rows = json.loads((entry / f"{name}.evidence.json").read_text(encoding="utf-8"))
        evidence = [None if row is None else np.array(row, np.int64).reshape(-1, 2) for row in rows]
    info = _load_info(entry, name)
    split = Split(name, Texts.open(entry / f"{name}.arrow"), np.load(entry / f"{name}.labels.npy"), evidence, info)
    if len(split.labels) != len(split):
        raise ValueError(f"{entry}: {len(split)} texts, {len(split.labels)} labels")
    return split


def _save_info(folder: Path, name: str, info: RowInfo) -> None:
    for field, value in vars(info).items():
        if isinstance(value, np.ndarray):
            np.save(folder / f"{name}.{field}.npy", value)
        elif value is not None:
            (folder / f"{name}.{field}.json").write_text(json.dumps(value), encoding="utf-8")


def _load_info(folder: Path, name: str) -> RowInfo | None:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(RowInfo):
        stem = folder / f"{name}.{field.name}"
        if Path(f"{stem}.npy").exists():
            found[field.name] = np.load(f"{stem}.npy")
        elif Path(f"{stem}.json").exists():
            found[field.name] = json.loads(Path(f"{stem}.json").read_text(encoding="utf-8"))
    return RowInfo(**found) if found else None


def save(key: str, data: Tokenised) -> None:
    """Store the data for `load`, if there is a cache."""
    corpus, tokenizer, tokens = data
    with cache.store(KIND, key) as folder:
        if folder is None:
            return
        for name, split in corpus.splits().items():
            split.texts.write(folder / f"{name}.arrow")
            np.save(folder / f"{name}.labels.npy", split.labels)
            if split.evidence is not None:
                spans = [None if row is None else row.tolist() for row in split.evidence]
                (folder / f"{name}.evidence.json").write_text(json.dumps(spans), encoding="utf-8")
            if split.info is not None:
                _save_info(folder, name, split.info)
        for name, arrays in tokens.items():
            np.save(folder / f"{name}.starts.npy", arrays.starts)
            arrays.write(folder / f"{name}.ids")
        for i, texts in enumerate(corpus.unlabelled):
            texts.write(folder / f"unlabelled{i}.arrow")
        for file, content in tokenizer.to_files().items():
            (folder / file).write_text(content, encoding="utf-8", newline="\n")
        facts = {
            "labels": corpus.labels,
            "multi_label": corpus.multi_label,
            "num_segments": corpus.num_segments,
            "source": corpus.source,
            "revision": corpus.revision,
            "notes": corpus.notes,
            "validation_is_drawn": corpus.validation_is_drawn,
            "test_fraction": corpus.test_fraction,
            "joined": corpus.joined,
            "num_pseudo_labelled": corpus.num_pseudo_labelled,
            "evidence": {name: split.evidence is not None for name, split in corpus.splits().items()},
            "num_unlabelled": len(corpus.unlabelled),
            "tokens": {name: [arrays.num_truncated, arrays.num_unknown] for name, arrays in tokens.items()},
        }
        (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
