"""From the data section of a config to texts and class ids, with every unusable row named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textattn.config.data_section import DataConfig
from textattn.data.read import Corpus, read_corpus, read_split
from textattn.errors import InputError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tests work in a folder of their own, so that messages hold short file names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def csv(name: str, *lines: str, header: str = "text,label") -> str:
    Path(name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return name


def jsonl(name: str, *rows: dict[str, Any]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def parquet(name: str, class_names: list[str] | None, **columns: list[Any]) -> str:
    table = pa.table(columns)
    if class_names:
        features = {"label": {"names": class_names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, name)
    return name


def config(train: Any = None, validation: Any = None, test: Any = None, unlabelled: Any = None, **more: Any) -> Any:
    files = {"train": train, "validation": validation, "test": test}
    if isinstance(unlabelled, str | list):
        unlabelled = {"path": unlabelled}
    more["unlabelled"] = unlabelled
    return DataConfig.model_validate({"files": files, **more} if train is not None else more)


def refused(settings: DataConfig) -> tuple[str, str | None]:
    with pytest.raises(InputError) as caught:
        read_corpus(settings)
    return caught.value.message, caught.value.hint


def read(corpus: Corpus, split: str = "train") -> list[tuple[str, str]]:
    found = corpus.splits()[split]
    return [(text, corpus.labels[label]) for text, label in zip(found, found.labels, strict=True)]


def test_a_single_file_is_the_training_split() -> None:
    corpus = read_corpus(config(path=csv("x.csv", "good,pos", "bad,neg", "fine,pos")))
    assert read(corpus) == [("good", "pos"), ("bad", "neg"), ("fine", "pos")]
    assert (corpus.labels, corpus.multi_label, corpus.num_segments) == (["neg", "pos"], False, 1)
    assert (corpus.source, corpus.revision, corpus.notes) == ("x.csv", None, [])
    assert corpus.validation is None and corpus.test is None and corpus.unlabelled == []
    assert list(corpus.splits()) == ["train"] and len(corpus.train) == 3


def test_files_of_every_format_give_the_same_corpus() -> None:
    rows = [{"text": "so, good", "label": "pos"}, {"text": "bad 🏽", "label": "neg"}]
    files = [
        csv("x.csv", '"so, good",pos', "bad 🏽,neg"),
        csv("x.tsv", "so, good\tpos", "bad 🏽\tneg", header="text\tlabel"),
        jsonl("x.jsonl", *rows),
        parquet("x.parquet", None, text=["so, good", "bad 🏽"], label=["pos", "neg"]),
    ]
    corpora = [read_corpus(config(path=file)) for file in files]
    assert [read(corpus) for corpus in corpora] == [[("so, good", "pos"), ("bad 🏽", "neg")]] * 4
    assert len({corpus.train.fingerprint() for corpus in corpora}) == 1


def test_the_fingerprint_changes_with_texts_labels_and_their_order() -> None:
    contents = [("ab,x", "c,y"), ("a,x", "bc,y"), ("ab,y", "c,x"), ("c,y", "ab,x")]
    assert len({read_corpus(config(path=csv("x.csv", *lines))).train.fingerprint() for lines in contents}) == 4


def test_several_files_and_patterns_are_read_in_order() -> None:
    for number in (2, 1, 3):
        csv(f"part{number}.csv", f"text {number},{number % 2}")
    jsonl("more.jsonl", {"text": "m", "label": 0})
    corpus = read_corpus(config(["part[12].csv", "more.jsonl", "part3.csv"], test="part*.csv"))
    assert list(corpus.train) == ["text 1", "text 2", "m", "text 3"]
    assert list(corpus.test or []) == ["text 1", "text 2", "text 3"]
    assert list(read_corpus(config(path=str(Path.cwd() / "part*.csv"))).train) == ["text 1", "text 2", "text 3"]


def test_a_missing_file_is_named_with_those_like_it() -> None:
    csv("train.csv")
    assert refused(config(path="trian.csv")) == ("trian.csv: no such file", "there is train.csv")
    assert refused(config("parts/*.csv")) == ("parts/*.csv: no such file", None)


def test_a_missing_column_is_named_with_those_there_are() -> None:
    file = csv("x.csv", "1,good,pos", header="id,review_text,label")
    message = "column 'text' not found in x.csv; columns are: id, review_text, label"
    assert refused(config(path=file)) == (message, "data.text=review_text")
    message = "column 'sentiment' not found in x.csv; columns are: id, review_text, label"
    assert refused(config(path=file, text="review_text", label="sentiment")) == (message, "data.label=id")


def test_columns_become_segments_joined_by_a_tab() -> None:
    rows = [{"a": "x\ty", "b": "z", "label": 0}, {"a": "", "b": "w", "label": 1}, {"a": "v", "label": 1}]
    corpus = read_corpus(config(path=jsonl("x.jsonl", *rows), text=["a", "b"]))
    assert list(corpus.train) == ["x y\tz", "\tw", "v\t"] and corpus.num_segments == 2
    single = read_corpus(config(path="x.jsonl", text=["a"], on_bad_row="skip"))
    assert list(single.train) == ["x\ty", "v"] and single.num_segments == 1


BAD = [
    ({"text": "", "label": 1}, "column 'text' is empty; expected a text"),
    ({"text": " \t\n", "label": 1}, "column 'text' is empty; expected a text"),
    ({"text": None, "label": 1}, "column 'text' is empty; expected a text"),
    ({"label": 1}, "column 'text' is empty; expected a text"),
    ({"text": float("nan"), "label": 1}, "column 'text' is empty; expected a text"),
    ({"text": True, "label": 1}, "column 'text' holds bool 'True'; expected a text"),
    ({"text": ["a"], "label": 1}, "column 'text' holds list \"['a']\"; expected a text"),
    ({"text": "a"}, "column 'label' is empty; expected a label"),
    ({"text": "a", "label": " "}, "column 'label' is empty; expected a label"),
    ({"text": "a", "label": float("nan")}, "column 'label' is empty; expected a label"),
    *(
        (
            {"text": "a", "label": label},
            f"column 'label' holds {label!r}; expected a string, a number, a boolean or a list of them",
        )
        for label in (float("inf"), {"a": 1}, [["a"]], [None], [float("nan")])
    ),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_bad_row_is_an_error_that_names_it_or_a_note(row: dict[str, Any], message: str) -> None:
    jsonl("x.jsonl", {"text": "b", "label": 0}, row, {"text": "c", "label": 1})
    assert refused(config(path="x.jsonl")) == (
        f"x.jsonl:2: {message}\n1 of 3 rows cannot be used",
        "mend the rows, or leave them out with data.on_bad_row=skip",
    )
    corpus = read_corpus(config(path="x.jsonl", on_bad_row="skip"))
    assert corpus.notes == [f"skipped 1 of 3 rows:\n  x.jsonl:2: {message}"]
    assert read(corpus) == [("b", "0"), ("c", "1")]


def test_segments_that_are_all_empty_are_a_bad_row() -> None:
    jsonl("x.jsonl", {"a": " ", "b": None, "label": 0}, {"a": "x", "b": "y", "label": 1})
    assert refused(config(path="x.jsonl", text=["a", "b"]))[0].startswith(
        "x.jsonl:1: columns a, b are all empty; expected a text\n"
    )


def test_ten_bad_rows_are_shown_and_all_are_counted() -> None:
    lines = ["a,x", "b,y", *([",x"] * 12), "ragged", "c,x"]
    message, _ = refused(config(csv("x.csv", *lines)))
    *shown, more, count = message.split("\n")
    assert shown == [f"x.csv:{n}: column 'text' is empty; expected a text" for n in range(4, 14)]
    assert (more, count) == ("… and 3 more", "13 of 16 rows cannot be used")
    corpus = read_corpus(config("x.csv", on_bad_row="skip"))
    assert len(corpus.train) == 3 and corpus.notes[0].startswith("skipped 13 of 16 rows:\n  x.csv:4: ")


def test_a_file_without_usable_rows() -> None:
    assert refused(config(path=csv("x.csv"))) == ("x.csv: no rows that can be used", None)
    assert refused(config(path=csv("x.csv", ",a"), on_bad_row="skip"))[0] == "x.csv: no rows that can be used"


def test_a_single_label_among_lists_is_a_bad_row() -> None:
    jsonl("x.jsonl", {"text": "b", "label": ["x", "y"]}, {"text": "c", "label": "xy"})
    assert refused(config(path="x.jsonl"))[0] == (
        "x.jsonl:2: column 'label': expected a list of labels, got 'xy'\n1 of 2 rows cannot be used"
    )


def test_label_lists_and_a_label_separator_are_multi_label() -> None:
    rows = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}, {"text": "c", "label": ["z"]}]
    corpus = read_corpus(config(path=jsonl("x.jsonl", *rows)))
    assert corpus.multi_label and corpus.labels == ["x", "y", "z"]
    assert corpus.train.labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    csv("x.tsv", "a\tx, y", "c\tz,", header="text\tlabel")
    corpus = read_corpus(config(path="x.tsv", label_separator=","))
    assert corpus.multi_label and corpus.train.labels.tolist() == [[1, 1, 0], [0, 0, 1]]
    assert read_corpus(config(path="x.tsv")).labels == ["x, y", "z,"]


def test_label_names_name_integers() -> None:
    corpus = read_corpus(config(path=csv("x.csv", "a,1", "b,0"), label_names=["bad", "good"]))
    assert read(corpus) == [("a", "good"), ("b", "bad")]
    message, _ = refused(config(path=csv("x.csv", "a,1", "b,2"), label_names=["bad", "good"]))
    assert message.startswith("x.csv:3: column 'label': unknown label 2; labels are: bad, good\n")


def test_an_unknown_label_in_the_test_split_is_named_with_its_row() -> None:
    settings = config(csv("train.csv", "a,x", "b,y"), test=csv("test.csv", "c,x", "d,z"))
    assert refused(settings)[0] == (
        "test.csv:3: column 'label': unknown label 'z'; labels are: x, y\n1 of 2 rows cannot be used"
    )
    skipping = read_corpus(settings.model_copy(update={"on_bad_row": "skip"}))
    assert read(skipping, "test") == [("c", "x")]
    assert skipping.notes == ["skipped 1 of 2 rows:\n  test.csv:3: column 'label': unknown label 'z'; labels are: x, y"]


def test_a_split_that_numbers_its_labels_in_another_order_is_matched_by_name() -> None:
    train = parquet("train.parquet", ["neg", "pos"], text=["a", "b"], label=[0, 1])
    test = parquet("test.parquet", ["pos", "neg"], text=["c", "d"], label=[0, 1])
    assert read(read_corpus(config(train, test=test)), "test") == [("c", "pos"), ("d", "neg")]
    named = csv("named.csv", "e,pos")
    assert read(read_corpus(config(train, test=named)), "test") == [("e", "pos")]


def test_an_unlabelled_test_split_is_refused_with_the_way_out() -> None:
    train = parquet("train.parquet", ["neg", "pos"], text=["a", "b"], label=[0, 1])
    test = parquet("test.parquet", ["neg", "pos"], text=["c", "d"], label=[-1, -1])
    assert refused(config(train, test=test, on_bad_row="skip")) == (
        "test.parquet: column 'label': all labels are -1, which means unlabelled",
        "data.test_split=null",
    )
    assert read_corpus(config(train, test=test, test_split=None)).test is None
    partly = parquet("partly.parquet", ["neg", "pos"], text=["c", "d"], label=[-1, 1])
    message = "partly.parquet:1: column 'label': the label is -1, which means unlabelled"
    assert refused(config(train, test=partly))[0] == f"{message}\n1 of 2 rows cannot be used"


def test_a_training_split_with_one_of_its_named_labels_only_is_refused() -> None:
    train = parquet("train.parquet", ["neg", "pos"], text=["a", "b"], label=[1, 1])
    assert refused(config(train))[0].startswith("the training split has only the label 'pos'; two different")


def test_texts_without_labels_need_no_label_column_and_no_row_is_dropped_in_silence() -> None:
    train, unlabelled = csv("train.csv", "a,x", "b,y"), csv("more.csv", "c", "", "d", header="text")
    corpus = read_corpus(config(train, unlabelled=[unlabelled, train]))
    assert [list(texts) for texts in corpus.unlabelled] == [["c", "d", "a", "b"]]
    csv("more.csv", "c,1", ",2", "d,3", header="text,id")
    message = "more.csv:3: column 'text' is empty; expected a text"
    assert refused(config(train, unlabelled=unlabelled))[0] == f"{message}\n1 of 3 rows cannot be used"
    corpus = read_corpus(config(train, unlabelled=unlabelled, on_bad_row="skip"))
    assert list(corpus.unlabelled[0]) == ["c", "d"] and corpus.notes == [f"skipped 1 of 3 rows:\n  {message}"]


def test_texts_without_labels_may_have_another_column_and_several_splits() -> None:
    train, more = csv("train.csv", "a,x", "b,y"), csv("more.csv", "c,1", header="body,id")
    found = read_corpus(config(train, unlabelled={"path": [more], "text": "body"}))
    assert [list(texts) for texts in found.unlabelled] == [["c"]]
    assert refused(config(train, unlabelled=more)) == (
        "column 'text' not found in more.csv; columns are: body, id",
        "data.unlabelled.text=body",
    )
    reviews = read_corpus(config(path="bundled:reviews"))
    found = read_corpus(config(train, unlabelled={"path": "bundled:reviews", "splits": ["test", "train", "test"]}))
    assert [list(texts) for texts in found.unlabelled] == [list(reviews.test or []), list(reviews.train)]
    for settings, part in (
        ({"path": train, "unlabelled": {}}, "give data.unlabelled.path, or name splits of data.path in"),
        ({"path": train, "unlabelled": {"splits": ["more"], "text": "b"}}, "data.unlabelled.text requires data.unl"),
        (
            {"files": {"train": train}, "unlabelled": {"splits": ["more"]}},
            "needs data.unlabelled.path if data.files is",
        ),
        ({"path": train, "text": ["a", "b"], "unlabelled": {"path": more, "text": "c"}}, "names 1 columns, but data.t"),
    ):
        with pytest.raises(ValueError, match=part):
            config(**settings)


def test_a_split_that_was_asked_for_by_name_must_be_there() -> None:
    assert read_corpus(config(path="bundled:reviews")).test is not None
    message = "bundled:reviews: no split 'dev'; splits are: test, train, validation"
    assert refused(config(path="bundled:reviews", validation_split="dev")) == (message, "data.validation_split=test")
    message = "bundled:four_sentences: no split 'all'; splits are: train"
    assert refused(config(path="bundled:four_sentences", train_split="all")) == (message, "data.train_split=train")
    assert refused(config(path="bundled:four_sentences", unlabelled={"splits": ["more"]}))[0] == (
        "data.unlabelled.splits: no split 'more'; splits are: train"
    )
    assert refused(config(path="bundled:x"))[0] == "data.path: no bundled corpus 'bundled:x'; there is bundled:reviews"


def test_roles_may_be_given_to_other_splits() -> None:
    corpus = read_corpus(config(path="bundled:reviews", train_split="validation", validation_split="train"))
    plain = read_corpus(config(path="bundled:reviews"))
    assert (len(corpus.train), len(corpus.validation or [])) == (len(plain.validation or []), len(plain.train))
    assert corpus.train.name == "train"


def test_read_split_matches_a_trained_models_labels_by_name(shared: Path) -> None:
    file = shared / "data/sst2/test.parquet"
    truth = pq.read_table(file).column("label").to_numpy()
    for labels in (["neg", "pos"], ["pos", "neg"], ["neg", "neutral", "pos"]):
        split, notes = read_split(config(path=str(file)), "test", labels, multi_label=False)
        assert np.array_equal([labels[i] == "pos" for i in split.labels], truth == 1) and notes == []
    with pytest.raises(InputError, match=r"the data have the label 'neg', which the model does not know"):
        read_split(config(path=str(file)), "test", ["pos", "positive"], multi_label=False)


def test_read_split_uses_the_label_names_of_the_config() -> None:
    settings = config(path=csv("x.csv", "a,1", "b,0"), label_names=["bad", "good"])
    assert read_split(settings, "test", ["bad", "good"], False)[0].labels.tolist() == [1, 0]
    assert read_split(settings, "test", ["good", "bad"], False)[0].labels.tolist() == [0, 1]


def test_read_split_takes_a_file_for_any_split_but_a_data_set_at_its_word() -> None:
    settings = config(path=csv("x.csv", "a,x"))
    assert list(read_split(settings, "test", ["x", "y"], False)[0]) == ["a"]
    with pytest.raises(InputError) as caught:
        read_split(config(path="bundled:four_sentences"), "test", ["negative", "positive"], False)
    assert (caught.value.message, caught.value.hint) == ("no split 'test'; splits are: train", "split='train'")


def test_take_keeps_texts_and_labels_together_in_the_order_asked_for() -> None:
    train = read_corpus(config(path=csv("x.csv", "a,x", "b,y", "c,x"))).train.take(np.array([2, 0]))
    assert (list(train), train.labels.tolist()) == (["c", "a"], [0, 0])


def test_more_rows_than_a_chunk_stay_in_order() -> None:
    corpus = read_corpus(config(path=csv("x.csv", *(f"text {i},{i % 3}" for i in range(20_001)))))
    assert list(corpus.train) == [f"text {i}" for i in range(20_001)]
    assert np.array_equal(corpus.train.labels, np.arange(20_001) % 3)
