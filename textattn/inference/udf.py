"""A function that adds answers to tables, for engines that run Python: Spark, DuckDB, Polars, Ray.

It can be pickled and holds no model: each process loads the model when it answers its first rows, and keeps it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textattn.data.segments import text_of
from textattn.errors import ConfigError, InputError
from textattn.inference.answer_columns import PREFIX, Answers, answer_names
from textattn.inference.classifier import Classifier
from textattn.storage.find_model import find_model
from textattn.storage.model_files import ModelFiles, read_model_config

if TYPE_CHECKING:
    from textattn.data.formats import Column

# Text, several labels and numbers as Spark and DuckDB call them.
DDL = {"text": "STRING", "texts": "ARRAY<STRING>", "number": "DOUBLE"}
SQL = {"text": "VARCHAR", "texts": "VARCHAR[]", "number": "DOUBLE"}
# Texts answered together: bounds memory for engines that hand over a whole column.
AT_A_TIME = 8192

_models: dict[tuple[str, str | None], Classifier] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class PredictUdf:
    """Adds the columns of `predict --output` to tables; see `textattn.predict_udf`."""

    model: str
    """The path of the model, or its name on the Hub."""
    text: tuple[str, ...]
    """The columns that contain the text."""
    columns: tuple[tuple[str, str], ...]
    """The columns that are added, each with its type: `text`, `texts` or `number`."""
    min_score: float = 0.0
    on_error: str = "stop"
    runtime: str | None = None

    @property
    def ddl(self) -> str:
        """The added columns as Spark writes a schema: "`label` STRING, `score` DOUBLE, …"."""
        return ", ".join(f"{_quoted(name, '`')} {DDL[kind]}" for name, kind in self.columns)

    @property
    def sql_type(self) -> str:
        """The type of `struct` as DuckDB writes it: 'STRUCT("label" VARCHAR, "score" DOUBLE, …)'."""
        fields = ", ".join(f"{_quoted(name, chr(34))} {SQL[kind]}" for name, kind in self.columns)
        return f"STRUCT({fields})"

    def __call__(self, frames: Iterable[Any]) -> Iterator[Any]:
        """pandas data frames with their answers, one by one, as Spark's `mapInPandas` wants it.

        Raises:
            InputError: a row has no text, and `on_error` is `stop`.
            ConfigError: a frame has no column with the text, or a column of the same name as an answer.
        """
        for frame in frames:
            values = self._values([frame[name] for name in self._checked(frame.columns)], len(frame))
            yield frame.assign(**{name: list(column) for (name, _), column in zip(self.columns, values, strict=True)})

    def arrow(self, table: Any) -> Any:
        """An Arrow table or record batch with the answers; the result is of the same kind.

        Raises:
            InputError, ConfigError: as for pandas.
        """
        names = self._checked(table.schema.names)
        arrays = self._arrays(self._values([table.column(name).to_pylist() for name in names], table.num_rows))
        for (name, _), array in zip(self.columns, arrays, strict=True):
            table = table.append_column(name, array)
        return table

    def polars(self, frame: Any) -> Any:
        """A Polars data frame with the answers, as `map_batches` of a lazy frame wants it.

        Raises:
            InputError, ConfigError: as for pandas.
        """
        import polars

        names = self._checked(frame.columns)
        arrays = self._arrays(self._values([frame[name].to_list() for name in names], frame.height))
        added = [
            polars.from_arrow(array).alias(name)  # type: ignore[union-attr]
            for (name, _), array in zip(self.columns, arrays, strict=True)
        ]
        return frame.with_columns(added)

    def struct(self, *columns: Any) -> Any:
        """The answers as one Arrow array of structs, from Arrow arrays of the text columns, as DuckDB wants it.

        Raises:
            InputError: as for pandas.
        """
        import pyarrow as pa

        given = [column.to_pylist() for column in columns]
        if len(given) != len(self.text):
            raise ConfigError(f"expected {len(self.text)} columns ({', '.join(self.text)}), got {len(given)}")
        arrays = self._arrays(self._values(given, len(given[0])))
        return pa.StructArray.from_arrays(arrays, names=[name for name, _ in self.columns])

    def _checked(self, columns: Iterable[Any]) -> tuple[str, ...]:
        """The text columns of a table with these columns."""
        names = [str(name) for name in columns]
        missing = next((name for name in self.text if name not in names), None)
        if missing is not None:
            raise ConfigError(f"no column {missing!r}; columns are: {', '.join(names)}", "text=[…]")
        taken = next((name for name, _ in self.columns if name in names), None)
        if taken is not None:
            raise ConfigError(f"the table has a column {taken!r}, as the answers have", f'prefix="{PREFIX}"')
        return self.text

    def _values(self, columns: Sequence[Iterable[Any]], rows: int) -> list[Column]:
        """The values of the added columns."""
        found: list[list[Any]] = [[None] * rows for _ in self.columns]
        texts, places = [], []
        for place, values in enumerate(zip(*columns, strict=True)):
            try:
                texts.append(text_of(values, self.text))
            except ValueError as error:
                if self.on_error == "stop":
                    raise InputError(f"row {place} of a batch of {rows:,}: {error}", 'on_error="null"') from None
                continue
            places.append(place)
        for first in range(0, len(texts), AT_A_TIME):
            classifier = loaded(self.model, self.runtime)
            part = classifier.normalise(texts[first : first + AT_A_TIME])
            answers = Answers.of(classifier, part, self.min_score).values()
            for column, answer in zip(found, answers, strict=True):
                listed = answer if isinstance(answer, list) else answer.tolist()
                for place, value in zip(places[first:], listed, strict=False):
                    column[place] = value
        return list(found)

    def _arrays(self, values: Sequence[Column]) -> list[Any]:
        import pyarrow as pa

        types = {"text": pa.string(), "texts": pa.list_(pa.string()), "number": pa.float64()}
        return [pa.array(column, types[kind]) for (_, kind), column in zip(self.columns, values, strict=True)]


def predict_udf(
    model: str | os.PathLike[str] | None = None,
    text: str | Sequence[str] | None = None,
    *,
    min_score: float = 0.0,
    on_error: str = "stop",
    prefix: str = "",
    runtime: str | None = None,
) -> PredictUdf:
    """A function that adds answers to tables, for Spark, DuckDB, Polars and other engines that run Python.

    It can be pickled. Every process loads the model when it answers its first rows, so `model` must lead to the model
    on every machine: a path that all of them have, or a name on the Hub.

    Args:
        model: as for `load`.
        text: the column, or the columns, that contain the text; default: as in training.
        min_score: give no label that is less probable.
        on_error: what to do about a row without text: `stop`, or `null` for answers that are null.
        prefix: stands before the names of the added columns.
        runtime: as for `load`.

    Raises:
        InputError: the model does not exist or is damaged.
        ConfigError: an argument is wrong.
    """
    if on_error not in ("stop", "null"):
        raise ConfigError(f"on_error: must be stop or null, got {on_error!r}", 'on_error="null"')
    found = find_model(None if model is None else os.fspath(model))
    config = read_model_config(ModelFiles(found))
    names = tuple(config.text_columns) if text is None else (text,) if isinstance(text, str) else tuple(text)
    if len(names) != len(config.text_columns):
        raise ConfigError(
            f"text: the model reads {len(config.text_columns)} columns ({', '.join(config.text_columns)}), "
            f"got {len(names)}",
            f"text={config.text_columns!r}",
        )
    kinds = {"label": "text", "labels": "texts"} if config.target is None else {}
    columns = tuple((prefix + name, kinds.get(name, "number")) for name in answer_names(config))
    # A name on the Hub stays one: where the cache of this machine is says nothing to another one.
    given = str(model) if model is not None and str(model).startswith("hf://") else str(found.resolve())
    return PredictUdf(given, names, columns, min_score, on_error, runtime)


def loaded(model: str, runtime: str | None = None) -> Classifier:
    """The model, which is loaded once in a process and computes in one thread: engines run many processes.

    Raises:
        InputError: it does not exist or is damaged.
    """
    with _lock:
        if (model, runtime) not in _models:
            classifier = Classifier.load(find_model(model), runtime=runtime)
            classifier.session.workers = 1
            _models[model, runtime] = classifier
        return _models[model, runtime]


def _quoted(name: str, mark: str) -> str:
    return mark + name.replace(mark, 2 * mark) + mark
