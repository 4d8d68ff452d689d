"""`model.linear`: the fitted linear part is what its equations say, and exact in every form."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_sparse
from sklearn.linear_model import LogisticRegression, Ridge
from small_models import PAD, UNK, VOCABULARY, build, padded
from test_every_task import KINDS, write_data

import textattn
from textattn.config.load import load_config
from textattn.explain.methods import method_names
from textattn.export.graph import build_graph
from textattn.inference.onnx_session import OnnxSession
from textattn.inference.torch_session import TorchSession
from textattn.model.classifier import TextClassifier
from textattn.report import Report
from textattn.runs.linear import fit_linear_part
from textattn.runs.prepare import prepare
from textattn.tasks import Binary, MultiLabel, SingleLabel, Task
from textattn.tasks.ordinal import Ordinal
from textattn.tokens.batches import collate
from textattn.tokens.token_arrays import TokenArrays
from textattn.training.linear import LinearTask
from textattn.training.ngram_features import Features, NgramSpace

FACTORS = (2654435761, 1640531527, 2246822519)
texts_of_ids = st.lists(st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=12), min_size=1, max_size=5)


def arrays(texts: list[list[int]]) -> TokenArrays:
    ids = np.array([token for text in texts for token in text], np.int32)
    return TokenArrays(ids, np.cumsum([0, *map(len, texts)]).astype(np.int64), 0, 0)


def bucket_of(run: list[int], buckets: int) -> int:
    """With Python's integers, which have no end."""
    number = len(run) - 1 + sum(token * factor for token, factor in zip(reversed(run), FACTORS, strict=False))
    return number % 2147483647 % buckets


def ngrams_of(text: list[int], longest: int, buckets: int) -> Counter[int]:
    found: Counter[int] = Counter()
    for n in range(1, longest + 1):
        for start in range(len(text) - n + 1):
            run = text[start : start + n]
            if UNK not in run:
                found[bucket_of(run, buckets)] += 1
    return found


# The features


@settings(max_examples=80, deadline=None)
@given(texts_of_ids, st.integers(1, 3), st.sampled_from([7, 1000]), st.sampled_from([0.5, 1.0, 1.5]))
def test_features_equal_the_equations_written_with_loops(
    texts: list[list[int]], longest: int, buckets: int, power: float
) -> None:
    space = NgramSpace(longest, buckets, UNK)
    counts = space.counts(arrays(texts))
    features = dataclasses.replace(Features.of(space, counts), power=power)
    found = features.matrix(counts).toarray()
    counted = [ngrams_of(text, longest, buckets) for text in texts]
    kept = sorted({bucket for each in counted for bucket in each})
    assert features.kept.tolist() == kept
    idf = [1 + math.log((1 + len(texts)) / (1 + sum(bucket in each for each in counted))) for bucket in kept]
    for row, each in enumerate(counted):
        squares = (each[bucket] * value ** (2 * power) for bucket, value in zip(kept, idf, strict=True))
        size = math.sqrt(sum(squares)) or 1.0
        expected = [each[bucket] * value**power / size for bucket, value in zip(kept, idf, strict=True)]
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)


def test_many_texts_are_counted_in_parts_and_rare_ngrams_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    texts = [generator.integers(1, 9, generator.integers(1, 9)).tolist() for _ in range(150)]
    texts[3] = [40, 41]  # nowhere else
    space = NgramSpace(2, 10_000, UNK)
    whole = space.counts(arrays(texts))
    monkeypatch.setattr("textattn.training.ngram_features.TOKENS_AT_ONCE", 5)
    assert (space.counts(arrays(texts)) != whole).nnz == 0
    kept = set(Features.of(space, whole).kept.tolist())
    assert bucket_of([40], 10_000) not in kept
    assert bucket_of([2], 10_000) in kept


# The model


@st.composite
def fitted_models(draw: Any) -> TextClassifier:
    encoder = draw(st.sampled_from(["lstm", "none"]))
    features = 30
    model = build(
        draw(st.sampled_from(["additive", "mean", "sigmoid"])),
        encoder,
        seed=draw(st.integers(0, 9)),
        num_outputs=draw(st.sampled_from([1, 2, 5])),
        ngrams=draw(st.sampled_from([1, 2, 3])),
        ngram_buckets=draw(st.sampled_from([40, 3000])),
        unk_id=UNK,
        linear="first",
        ngram_features=features,
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    assert model.ngrams is not None
    assert model.ngrams.places is not None
    assert model.ngrams.squares is not None
    # Half of the buckets have no weights.
    places = torch.randint(0, features, model.ngrams.places.shape, generator=generator)
    model.ngrams.places.copy_(places * torch.randint(0, 2, places.shape, generator=generator))
    with torch.no_grad():
        model.ngrams.weights.weight[0] = 0
        model.ngrams.squares[1:] = 1 + torch.rand(features - 1, 1, generator=generator)
    return model


def expected_part(model: TextClassifier, text: list[int]) -> np.ndarray:
    part = model.ngrams
    assert part is not None
    assert part.places is not None
    assert part.squares is not None
    table, squares = part.weights.weight.detach().double().numpy(), part.squares.double().numpy()
    total, size = np.zeros(table.shape[1]), 0.0
    for bucket, count in ngrams_of(text, part.longest, part.buckets).items():
        place = int(part.places[bucket])
        total += count * table[place]
        size += count * squares[place, 0]
    return np.asarray(total / math.sqrt(size) if size else total)


@settings(max_examples=80, deadline=None)
@given(fitted_models(), texts_of_ids)
def test_torch_equals_the_equations_and_contributions_add_up(model: TextClassifier, texts: list[list[int]]) -> None:
    model.double()
    assert model.ngrams is not None
    for seq in (max(map(len, texts)), 15):  # whatever the padding and the companions
        ids, mask = padded(texts, seq)
        with torch.inference_mode():
            found = model.ngrams(ids, mask)
            shares = model.ngrams.contributions(ids, mask)
            output = model(ids, mask)
            parts = model.contributions(output, ids, mask)
        for row, text in enumerate(texts):
            np.testing.assert_allclose(found[row].numpy(), expected_part(model, text), atol=1e-12)
        torch.testing.assert_close(shares.sum(dim=1), found, rtol=0, atol=1e-12)
        torch.testing.assert_close(parts.total.sum(1) + model.classifier.bias, output.logits, rtol=0, atol=1e-12)
        assert not shares[ids == PAD].any()
        assert not shares[ids == UNK].any()


@settings(max_examples=40, deadline=None)
@given(fitted_models(), texts_of_ids)
def test_the_graph_computes_what_torch_computes(model: TextClassifier, texts: list[list[int]]) -> None:
    ids, mask = (tensor.numpy() for tensor in padded(texts))
    expected = TorchSession(model).run(ids, mask, with_contributions=True)
    bias = model.classifier.bias.detach().double().numpy()
    for int8 in (False, True):
        session = OnnxSession(build_graph(model, {"textattn": "{}"}, int8=int8).SerializeToString(), "model.onnx")
        found = session.run(ids, mask, with_contributions=True)
        assert found.contributions is not None
        np.testing.assert_allclose(found.ngram_contributions, expected.ngram_contributions, atol=1e-5)
        np.testing.assert_allclose(found.contributions.astype(float).sum(1) + bias, found.logits, atol=1e-4)
        if not int8:
            np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)


# The fit


def noisy(rows: int = 120) -> tuple[csr_matrix, np.ndarray]:
    generator = np.random.default_rng(1)
    features = random_sparse(rows, 30, 0.3, format="csr", random_state=2)
    return features, features @ generator.normal(size=(30, 4)) + generator.normal(size=(rows, 4))


def task_and_labels(kind: str) -> tuple[Task, np.ndarray]:
    scores = noisy()[1]
    if kind == "softmax":
        return SingleLabel(list("abcd")), scores.argmax(axis=1)
    if kind == "two":
        return SingleLabel(list("ab")), (scores[:, 0] > 0).astype(np.int64)
    if kind == "binary":
        return Binary(list("ab")), (scores[:, 0] > 0).astype(np.int64)
    if kind == "multi_label":
        return MultiLabel(list("abcd")), (scores > 0).astype(np.int64)
    return Ordinal(list("123")), np.digitize(scores[:, 0], [-0.5, 0.5])


def scales_of(dense: np.ndarray, yes: np.ndarray) -> np.ndarray:
    """The log ratios of naive Bayes, feature by feature."""
    smoothing = dense[dense > 0].mean()
    totals = {answer: dense[yes == answer].sum() + smoothing * dense.shape[1] for answer in (True, False)}
    ratios = []
    for j in range(dense.shape[1]):
        shares = [(dense[yes == answer, j].sum() + smoothing) / totals[answer] for answer in (True, False)]
        ratios.append(abs(math.log(shares[0] / shares[1])))
    return np.array(ratios) / math.sqrt(sum(ratio**2 for ratio in ratios) / len(ratios))


@pytest.mark.parametrize("kind", ["softmax", "two", "binary", "multi_label", "ordinal"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_fit_is_that_of_scikit_learn_with_another_solver(
    kind: str, scaled: bool, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lbfgs, with a column of ones, because liblinear regularises the bias like the other weights."""
    monkeypatch.setattr("textattn.training.linear.TOLERANCE", 1e-4)
    features, _ = noisy()
    dense = features.toarray()
    task, labels = task_and_labels(kind)
    weights = np.linspace(0.5, 2, len(task.labels)).astype(np.float32) if weighted else None
    model = LinearTask(features, labels, task, weights, scaled).fit(3.0)
    columns = []
    for question in task.questions(labels, weights):
        rows = np.flatnonzero(question.asked)
        other = LogisticRegression(C=3.0, fit_intercept=False, tol=1e-10, max_iter=5000)
        own = None if question.weights is None else question.weights[rows]
        scales = np.append(scales_of(dense[rows], question.yes[rows]) if scaled else np.ones(30), 1.0)
        with_ones = np.hstack([dense[rows], np.ones((len(rows), 1))]) * scales
        columns.append(other.fit(with_ones, question.yes[rows], sample_weight=own).coef_[0] * scales)
    expected = np.stack(columns, axis=1)
    if kind == "two":
        # As logits of a softmax, they differ by the log odds of the second label.
        np.testing.assert_allclose(model.weights[:, 1] - model.weights[:, 0], expected[:-1, 1], atol=0.02)
        return
    np.testing.assert_allclose(np.vstack([model.weights, model.bias]), expected, atol=0.02)


def test_what_each_question_asks() -> None:
    (first, second) = Ordinal(list("123")).questions(np.array([0, 1, 2]), None)
    assert (first.asked.tolist(), first.yes.tolist()) == ([True] * 3, [False, True, True])
    assert (second.asked.tolist(), second.yes.tolist()) == ([False, True, True], [False, False, True])
    weighted = MultiLabel(list("ab")).questions(np.array([[1, 0], [0, 1]]), np.array([3.0, 5.0]))
    assert [question.weights.tolist() for question in weighted if question.weights is not None] == [[3, 1], [1, 5]]


def test_labels_that_all_texts_or_none_have_are_no_error() -> None:
    features, _ = noisy()
    labels = np.zeros((features.shape[0], 3), np.int64)
    labels[:, 0] = 1
    labels[::2, 1] = 1
    model = LinearTask(features, labels, MultiLabel(list("abc"))).fit(1.0)
    probs = MultiLabel(list("abc")).probabilities(model.logits(features))
    assert probs[:, 0].min() > 0.99
    assert probs[:, 2].max() < 0.01


def test_the_logits_of_a_fold_come_from_the_other_rows_alone() -> None:
    """Whatever label a row has, its own logits do not move; those of other folds do."""
    features, _ = noisy()
    task, labels = task_and_labels("softmax")
    folds = [np.arange(i, len(labels), 5) for i in range(5)]
    found = LinearTask(features, labels, task).out_of_fold(3.0, folds)
    for i, fold in enumerate(folds):
        rest = np.setdiff1d(np.arange(len(labels)), fold)
        np.testing.assert_array_equal(
            found[fold], LinearTask(features[rest], labels[rest], task).fit(3.0).logits(features[fold])
        )
        changed = labels.copy()
        changed[fold] = (changed[fold] + 1) % 4
        again = LinearTask(features, changed, task).out_of_fold(3.0, folds)
        np.testing.assert_array_equal(again[fold], found[fold])
        assert not np.allclose(again[folds[i - 1]], found[folds[i - 1]])


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_the_network_computes_what_was_fitted(power: float, tmp_path: Path) -> None:
    data = prepared(write(tmp_path, "labels"))
    part = fit_linear_part(data, Report())
    features = dataclasses.replace(part.features, power=power)
    matrix = features.matrix(features.space.counts(data.tokens["train"]))
    model = LinearTask(matrix, data.corpus.train.labels, data.task).fit(3.0)
    network = build(
        vocab_size=data.tokenizer.vocab_size, num_outputs=3, unk_id=data.tokenizer.unk_id, linear="only",
        ngrams=features.space.longest, ngram_buckets=features.space.buckets, ngram_features=part.rows,
    )  # fmt: skip
    dataclasses.replace(part, features=features, model=model).install(network)
    ids, mask = (torch.from_numpy(array) for array in collate(data.tokens["train"], np.arange(20), PAD))
    with torch.inference_mode():
        logits = network.eval()(ids, mask).logits.numpy()
    np.testing.assert_allclose(logits, model.logits(matrix[:20]), atol=1e-4)


@pytest.mark.parametrize("long", [False, True])
def test_the_power_of_idf_is_that_of_the_best_model(long: bool, tmp_path: Path) -> None:
    """Common words that tell nothing are many in long texts, and the validation split says how much they may count."""
    generator = np.random.default_rng(0)
    lines = []
    for _ in range(400):
        common = generator.choice(["the", "film", "plot", "was", "and", "a", "of", "to"], 300 if long else 3).tolist()
        label = int(generator.integers(20))
        words = [*common, f"topic{label}x{generator.integers(8)}"]
        lines.append(json.dumps({"text": " ".join(generator.permutation(words)), "label": f"c{label}"}))
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    data = prepared(tmp_path / "x.jsonl")
    part = fit_linear_part(data, Report())
    found = part.facts["validation"]["accuracy"]
    counts, held_out = (part.features.space.counts(data.tokens[name]) for name in ("train", "validation"))
    reached = {}
    for power in (0.5, 1.0, 1.5):
        features = dataclasses.replace(part.features, power=power)
        task = LinearTask(features.matrix(counts), data.corpus.train.labels, data.task, None, part.choice.scaled)
        decided = task.fit(part.choice.strength).logits(features.matrix(held_out)).argmax(axis=1)
        reached[power] = float(np.mean(decided == data.corpus.validation.labels))
    assert reached[part.facts["idf_power"]] == pytest.approx(found)
    if long:
        assert found > reached[0.5] + 0.2
    else:
        assert part.facts["idf_power"] == 0.5


def test_numbers_have_a_ridge_regression(tmp_path: Path) -> None:
    data = prepared(write(tmp_path, "numbers"), "task=regression")
    part = fit_linear_part(data, Report())
    counts = part.features.space.counts(data.tokens["train"])
    features = part.features.matrix(counts)
    expected = Ridge(alpha=1 / part.facts["C"], solver="svd").fit(
        features.toarray(), data.task.encode(data.corpus.train.labels)
    )
    np.testing.assert_allclose(part.model.logits(features)[:, 0], expected.predict(features.toarray()), atol=1e-3)


# Runs


def write(folder: Path, kind: str, rows: int = 200) -> Path:
    generator = np.random.default_rng(0)
    lines = []
    for _ in range(rows):
        grade = int(generator.integers(3))
        words = [*generator.choice(["the", "film", "plot", "was", "and"], 6), ("bad", "fair", "good")[grade]]
        label: Any = {"numbers": 2.5 * grade, "labels": ("low", "mid", "high")[grade]}[kind]
        lines.append(json.dumps({"text": " ".join(generator.permutation(words)), "label": label}))
    (folder / "data.jsonl").write_text("\n".join(lines))
    return folder / "data.jsonl"


def prepared(data: Path, *settings: str, linear: str = "only") -> Any:
    given = ["tokenizer.min_frequency=1", f"model.linear={linear}", *settings]
    return prepare(load_config(str(data), given), Report())


def test_rows_of_a_group_are_in_one_fold(tmp_path: Path) -> None:
    from textattn.runs.linear_search import folds_of

    data = write(tmp_path, "labels")
    rows = [json.loads(line) | {"by": i % 23} for i, line in enumerate(data.read_text().splitlines())]
    data.write_text("\n".join(map(json.dumps, rows)))
    found = prepared(data, "data.group=by", linear="first")
    folds = folds_of(found, np.arange(len(found.corpus.train)))
    groups = found.corpus.train.info.groups
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(found.corpus.train)))
    seen = [set(groups[fold].tolist()) for fold in folds]
    assert sum(map(len, seen)) == len(set(groups.tolist()))


SMALL = [
    "recipe=plain", "tokenizer.min_frequency=1", "model.embedding_dim=8", "model.hidden_size=8", "training.epochs=2",
    "training.batch_size=16", "training.baseline=true", "output.audit_examples=20",
]  # fmt: skip
files = ("model.safetensors", "model.onnx", "config.json", "tokenizer.json")


@pytest.fixture(scope="module")
def linear_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linear")
    done = cli("train", write(folder, "labels"), "--linear-only", *SMALL, f"output.dir={folder / 'run'}")
    assert done.code == 0, done.err
    assert "Fitting a linear model on n-grams of" in done.err
    assert "epoch 1" not in done.err
    return folder / "run"


def test_a_linear_model_is_a_model_like_any_other(linear_run: Path, tmp_path: Path) -> None:
    metrics = json.loads((linear_run / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.9
    assert metrics["linear"]["C"] > 0
    assert metrics["export"]["max_difference"] < 1e-4
    model = textattn.load(linear_run)
    (explained,) = model.explain("the film was good")
    assert explained.total is not None
    assert explained.total.words == pytest.approx(0, abs=1e-6)
    assert sum(explained.weights) + explained.total.bias == pytest.approx(explained.total.answer, abs=1e-5)
    assert explained.tokens[int(np.argmax(explained.weights))] == "good"
    for command in (
        ("predict", "--model", linear_run, "the plot was bad"),
        ("explain", "--model", linear_run, "--method", "all", "the plot was bad"),
        ("info", linear_run),
        ("report", linear_run),
        ("evaluate", "--model", linear_run),
        ("words", "--model", linear_run),
        ("audit", "--model", linear_run, "--examples", "10"),
    ):
        done = cli(*command)
        assert done.code == 0, done.err
    assert "linear model on n-grams of up to 2 tokens" in cli("info", linear_run).out


def test_a_linear_model_has_no_attention_to_show(linear_run: Path, tmp_path: Path) -> None:
    text = "the plot was bad"
    out = cli("explain", "--model", linear_run, text).out
    assert "word " in out
    assert "attention" not in out
    assert cli("explain", "--model", linear_run, text, "--html", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert '<th scope="col" class="amount">contribution' in page
    assert '<th scope="col" class="amount">attention' not in page
    # Programs find what they always found.
    found = json.loads(cli("explain", "--model", linear_run, text, "--json").out)
    assert len(found["attention_weights"]) == len(found["tokens"])
    assert all("attention" in word for word in found["words"])
    for method in ("attention", "attention_x_gradient"):
        for command in (["explain", text], ["explain", "--html", str(tmp_path / "no.html"), text], ["words"]):
            done = cli(command[0], "--model", linear_run, "--method", method, *command[1:])
            assert done.code == 2
            assert f"Error: {method}: this model is a linear model alone (model.linear: only), without" in done.err
            assert done.err.endswith("Hint: --method contributions\n")
    given = cli("explain", "--model", linear_run, "--method", "all", "--json", text).out
    methods = [json.loads(line)["method"] for line in given.splitlines()]
    assert methods == [name for name in method_names() if not name.startswith("attention")]


def test_the_audit_of_a_linear_model_has_no_attention(linear_run: Path) -> None:
    """Neither that of the training nor that of the command; of several models, neither."""
    stored = json.loads((linear_run / "metrics.json").read_text())["audit"]
    models = ["--model", linear_run, "--model", linear_run]
    done = cli("audit", *models, "--examples", "20")
    asked = cli("audit", *models, "--examples", "20", "--json")
    found = json.loads(asked.out)
    for audit in (stored, found):
        assert {"contributions", "random"} < set(audit["methods"])
        assert not any(name.startswith("attention") for name in audit["methods"])
        assert not {"attention", "noise"} & set(audit)
        assert "attention" not in audit["verdict"]
    assert "attention" not in done.out
    assert "noise" not in done.out
    assert found["seeds"]["attention_tau"] is found["seeds"]["attention_jensen_shannon"] is None
    assert found["seeds"]["contributions_tau"] == pytest.approx(1)
    assert "ttention" not in (linear_run / "README.md").read_text().partition("---\n\n")[2]
    only = cli("audit", "--model", linear_run, "--methods", "occlusion,attention")
    assert only.code == 0
    assert only.out.startswith("The words that occlusion highlights")
    refused = cli("audit", "--model", linear_run, "--methods", "attention")
    assert refused.code == 2
    assert "--methods: attention: not for this model (linear model on n-grams" in refused.err
    assert refused.err.endswith("Hint: --methods contributions\n")


@pytest.mark.parametrize("linear", ["only", "first"])
def test_the_same_bytes_again_and_after_resuming(linear: str, tmp_path: Path) -> None:
    data = write(tmp_path, "labels")
    settings = [*SMALL, f"model.linear={linear}", "training.checkpoint_steps=1"]
    for name in ("a", "b"):
        assert cli("train", data, *settings, f"output.dir={tmp_path / name}").code == 0
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert cli("train", data, *settings, f"output.dir={tmp_path / 'a'}", "--resume").code == 0


def test_first_begins_with_the_linear_model(tmp_path: Path) -> None:
    """And says so where the network adds nothing, as here, where words alone decide."""
    data = write(tmp_path, "labels")
    done = cli("train", data, *SMALL, "model.linear=first", f"output.dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    assert "Note: the linear model alone has accuracy 1.0000 on validation" in done.err
    assert "the network adds nothing to the linear model" in done.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["best"]["best_global_step"] == 0
    # What it says to run instead works as it stands, and is the same model.
    _, _, command = done.err.partition("The linear model alone is as good, and takes seconds:\n")
    name, *arguments = shlex.split(command.splitlines()[0])
    assert (name, arguments[0]) == ("textattn", "train")
    again = cli(*arguments)
    assert again.code == 0, again.err
    assert "alone is as good" not in again.err
    alone = json.loads((tmp_path / "run-linear" / "metrics.json").read_text())
    assert alone["test"]["accuracy"] == metrics["test"]["accuracy"]
    (explained,) = textattn.load(tmp_path / "run").explain("the film was good")
    assert explained.total is not None
    # Exactly, so that the attention of a network that adds nothing is not shown.
    assert explained.total.words == 0
    shown = cli("explain", "--model", tmp_path / "run", "the film was good").out
    assert "word     weight\n" in shown


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        (["model.ngrams=0"], "model.linear: first needs n-grams", "model.ngrams=2"),
    ],
)
def test_settings_that_do_not_fit(settings: list[str], message: str, hint: str, tmp_path: Path) -> None:
    done = cli("train", write(tmp_path, "labels"), *SMALL, "model.linear=first", *settings)
    assert done.code == 2
    assert message in done.err
    assert hint in done.err


def test_a_linear_model_alone_reads_long_texts_whole(tmp_path: Path) -> None:
    data = write(tmp_path, "labels")
    words = ["the"] * 3000
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    data.write_text("\n".join(json.dumps(row | {"text": " ".join([*words, row["text"]])}) for row in rows))
    tokens = prepared(data, "seed=5", linear="only").tokens["train"]
    assert tokens.lengths.min() > 3000
    assert prepared(data, "seed=5", "recipe=long", linear="first").tokens["train"].lengths.max() == 400


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task(kind: str, tmp_path: Path) -> None:
    data = write_data(tmp_path, KINDS[kind])
    for linear in ("only", "first"):
        run = tmp_path / linear
        done = cli("train", data, *SMALL, *KINDS[kind].settings, f"model.linear={linear}", f"output.dir={run}")
        assert done.code == 0, done.err
        found = json.loads((run / "metrics.json").read_text())
        assert found["linear"]["validation"].keys() == {found["best"]["metric_for_best_model"]}
        # Numbers are at most 25 apart.
        good = found["test"]["mae"] < 3 if kind == "numbers" else found["test"][KINDS[kind].metric] > 0.85
        assert good
        done = cli("explain", "--model", run, "--json", "the plot was great")
        assert done.code == 0, done.err


def test_the_forecast_of_a_linear_model(tmp_path: Path) -> None:
    data = write(tmp_path, "labels")
    dry = cli("train", data, "--linear-only", "--dry-run", "--json", *SMALL)
    assert dry.code == 0, dry.err
    for words in (["--linear-only"], ["model.linear=only"]):
        checked = cli("check", data, *words, "--json", *SMALL)
        assert checked.code == 0, checked.err
        same, other = json.loads(checked.out), json.loads(dry.out)
        assert same.keys() == other.keys()
        assert same["num_parameters"] == other["num_parameters"]
        assert same["forecast"]["seconds_by_stage"].keys() == other["forecast"]["seconds_by_stage"].keys()
    network = json.loads(cli("check", data, "--json", *SMALL).out)
    assert network["num_parameters"] > same["num_parameters"]


@pytest.mark.parametrize("command", [["check"], ["train"], ["train", "--dry-run"]])
def test_what_is_refused_is_called_as_it_was_given(command: list[str], tmp_path: Path) -> None:
    data = write(tmp_path, "labels")
    for words, name in ((["--linear-only"], "--linear-only"), (["model.linear=only"], "model.linear")):
        done = cli(*command, data, *words, "model.ngrams=0", *SMALL)
        assert (done.code, done.out) == (2, "")
        assert done.err.endswith(f"Error: {name}: only needs n-grams\nHint: model.ngrams=2\n"), done.err
