"""`textattn.predict_udf`: the answers of `predict --output` in tables of pandas, Spark, DuckDB, Polars and Arrow."""

from __future__ import annotations

import csv
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inprocess import run as cli
from test_every_task import KINDS, SMALL, write_data

import textattn
from textattn.errors import ConfigError, InputError
from textattn.inference import udf as module

MakeOnce = Callable[[str, Callable[[Path], object]], Path]
TEXTS = ["the film was great", "awful, bad plot", "Café 😀", "very\tgood", "nothing of it known?"]


@pytest.fixture(scope="module", params=["three labels", "several labels", "numbers"])
def run(request: pytest.FixtureRequest, make_once: MakeOnce) -> Path:
    kind = KINDS[request.param]

    def make(folder: Path) -> None:
        data = write_data(folder, kind)
        done = cli("train", data, *SMALL, *kind.settings, f"output.dir={folder / 'run'}")
        assert done.code == 0, done.err

    return make_once(f"every-task-{request.param.replace(' ', '-')}", make) / "run"


@pytest.fixture
def wanted(run: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """The rows that `predict --output` writes."""
    pq.write_table(pa.table({"id": range(len(TEXTS)), "text": TEXTS}), tmp_path / "in.parquet")
    done = cli("predict", "--model", run, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out.parquet")
    assert done.code == 0, done.err
    rows: list[dict[str, Any]] = pq.read_table(tmp_path / "out.parquet").to_pylist()
    return rows


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [list(row) for row in found] == [list(row) for row in wanted]
    for row, expected in zip(found, wanted, strict=True):
        for name, value in expected.items():
            assert row[name] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value), name


def frame() -> pd.DataFrame:
    return pd.DataFrame({"id": range(len(TEXTS)), "text": TEXTS})


def test_pandas_frames_as_spark_hands_them_over(run: Path, wanted: list[dict[str, Any]]) -> None:
    udf = pickle.loads(pickle.dumps(textattn.predict_udf(run)))
    frames = udf(part for part in (frame()[:2], frame()[2:2], frame()[2:]))
    assert isinstance(frames, Iterator)
    parts = list(frames)
    assert [len(part) for part in parts] == [2, 0, 3]
    assert list(parts[2].index) == [2, 3, 4]
    same(pd.concat(parts).to_dict("records"), wanted)
    assert frame().equals(pd.concat(parts)[["id", "text"]])


def test_arrow_tables_and_batches(run: Path, wanted: list[dict[str, Any]]) -> None:
    udf = textattn.predict_udf(run)
    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
    same(udf.arrow(table).to_pylist(), wanted)
    batch = udf.arrow(table.to_batches()[0])
    assert isinstance(batch, pa.RecordBatch)
    same(batch.to_pylist(), wanted)
    assert udf.arrow(table.slice(0, 0)).schema == udf.arrow(table).schema


def test_polars(run: Path, wanted: list[dict[str, Any]]) -> None:
    udf = textattn.predict_udf(run)
    lazy = pl.LazyFrame({"id": range(len(TEXTS)), "text": TEXTS})
    same(lazy.map_batches(udf.polars, validate_output_schema=False).collect().to_dicts(), wanted)
    empty = udf.polars(lazy.collect()[:0])
    assert empty.schema == udf.polars(lazy.collect()).schema


def test_duckdb(run: Path, wanted: list[dict[str, Any]]) -> None:
    duckdb = pytest.importorskip("duckdb")
    udf = textattn.predict_udf(run)
    database = duckdb.connect()
    database.execute("SET threads = 2")
    database.create_function("answer", udf.struct, ["VARCHAR"], udf.sql_type, type="arrow", null_handling="special")
    texts = frame()
    assert len(texts)  # DuckDB finds the frame by its name
    rows = database.sql("SELECT id, text, unnest(answer(text)) FROM texts ORDER BY id").to_arrow_table().to_pylist()
    same(rows, wanted)


@pytest.mark.slow
def test_spark(run: Path, wanted: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark")
    if not shutil.which("java"):
        pytest.skip("needs a Java virtual machine")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.warehouse.dir", str(tmp_path))
        .getOrCreate()
    )
    try:
        table = spark.createDataFrame(list(enumerate(TEXTS)), "id BIGINT, text STRING").repartition(3)
        udf = textattn.predict_udf(run)
        schema = StructType([*table.schema, *StructType.fromDDL(udf.ddl)])
        rows = [row.asDict() for row in table.mapInPandas(udf, schema).orderBy("id").collect()]
    finally:
        spark.stop()
    same(rows, wanted)


def test_several_columns_of_text(make_once: MakeOnce, tmp_path: Path) -> None:
    with (tmp_path / "data.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["a", "b", "label"], *[["x y", f"good {i}", "pos"] for i in range(20)]])
        csv.writer(file).writerows([["z", f"bad {i}", "neg"] for i in range(20)])
    overrides = ["recipe=plain", "data.text=[a,b]", "training.epochs=1", f"output.dir={tmp_path / 'run'}"]
    done = cli("train", tmp_path / "data.csv", *overrides, "output.report=false", "output.plots=false")
    assert done.code == 0, done.err
    udf = textattn.predict_udf(tmp_path / "run", ["first", "second"])
    table = pa.table({"second": ["good\t1", None], "first": ["x", "y"]})
    expected = textattn.load(tmp_path / "run").predict([("x", "good 1"), ("y", "")])
    assert udf.arrow(table).column("score").to_pylist() == pytest.approx([each.score for each in expected])
    assert udf.struct(table["first"], table["second"]).field("label").to_pylist() == [each.label for each in expected]
    with pytest.raises(ConfigError, match="the model reads 2 columns"):
        textattn.predict_udf(tmp_path / "run", "first")


def test_a_row_without_text(trained_run: Path) -> None:
    table = pa.table({"text": ["good", None, " ", "bad"]})
    with pytest.raises(InputError, match="row 1 of a batch of 4: column 'text' is empty"):
        textattn.predict_udf(trained_run).arrow(table)
    answers = textattn.predict_udf(trained_run, on_error="null").arrow(table)
    kept = textattn.predict_udf(trained_run).arrow(table.take([0, 3]))
    assert [row["label"] is None for row in answers.to_pylist()] == [False, True, True, False]
    assert answers.take([0, 3]).to_pylist() == kept.to_pylist()
    (spark,) = textattn.predict_udf(trained_run, on_error="null")([table.to_pandas()])
    assert list(spark["score"].isna()) == [False, True, True, False]
    nothing = textattn.predict_udf(trained_run, on_error="null").arrow(
        pa.table({"text": pa.array([None], pa.string())})
    )
    assert nothing.column("score").to_pylist() == [None]


def test_min_score_and_many_rows(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"text": [f"good film {i}" for i in range(20)]})
    whole = textattn.predict_udf(trained_run).arrow(table)
    monkeypatch.setattr(module, "AT_A_TIME", 3)
    parts = textattn.predict_udf(trained_run, min_score=1.0).arrow(table)
    assert parts.column("label").to_pylist() == [None] * 20
    assert parts.column("score").to_pylist() == pytest.approx(whole.column("score").to_pylist(), abs=1e-6)


def test_names_that_are_taken_get_a_prefix(trained_run: Path) -> None:
    table = pa.table({"text": ["good"], "label": ["mine"]})
    with pytest.raises(ConfigError, match="the table has a column 'label', as the answers have"):
        textattn.predict_udf(trained_run).arrow(table)
    udf = textattn.predict_udf(trained_run, prefix="predicted_")
    assert udf.arrow(table).schema.names[:3] == ["text", "label", "predicted_label"]
    assert udf.ddl.startswith("`predicted_label` STRING, `predicted_score` DOUBLE")
    with pytest.raises(ConfigError, match="no column 'text'; columns are: label"):
        udf.arrow(table.drop_columns("text"))
    with pytest.raises(ConfigError, match="must be stop or null"):
        textattn.predict_udf(trained_run, on_error="skip")


def test_names_are_quoted() -> None:
    udf = module.PredictUdf("x", ("text",), (('score:a"b`c', "number"),))
    assert udf.ddl == '`score:a"b``c` DOUBLE'
    assert udf.sql_type == 'STRUCT("score:a""b`c" DOUBLE)'


def test_another_process_loads_the_model_by_itself_and_once(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained_run.parent)
    udf = textattn.predict_udf(trained_run.name)  # a relative path still leads there from elsewhere
    (tmp_path / "udf").write_bytes(pickle.dumps(udf))
    assert len(pickle.dumps(udf)) < 2000
    script = (
        "import pickle, pathlib, sys\n"
        "from textattn.inference import classifier\n"
        "loads = []\n"
        "load = classifier.Classifier.load.__func__\n"
        "def counted(cls, *a, **k):\n    loads.append(1)\n    return load(cls, *a, **k)\n"
        "classifier.Classifier.load = classmethod(counted)\n"
        "udf, same = (pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()) for _ in range(2))\n"
        "assert not loads\n"
        "import pyarrow as pa\n"
        "table = pa.table({'text': ['good']})\n"
        "print(udf.arrow(table).column('score')[0], same.arrow(table).column('score')[0], len(loads))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "udf")],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second, loads = done.stdout.split()
    assert first == second
    assert loads == "1"
