"""The arrays of one text on its way through the network, each computed again from those before it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explain_models import OUTPUTS, TEXTS, build, ids_of, logits, model_of
from small_models import MECHANISMS

import textattn
from textattn.api import Model
from textattn.errors import ConfigError, InputError
from textattn.explain.trace import MAPPED, Trace, has_map

TEXT = TEXTS[4]
WITHOUT_WEIGHTS = ("max", "last")


def doubles(trace: Trace) -> dict[str, Any]:
    """Its arrays in float64."""
    return {
        name: value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
        for name, value in vars(trace).items()
    }


def softmax(x: Any) -> Any:
    parts = np.exp(x - x.max(axis=-1, keepdims=True))
    return parts / parts.sum(axis=-1, keepdims=True)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_equal(np.shape(found), np.shape(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
@pytest.mark.parametrize("ngrams", [0, 3])
@pytest.mark.parametrize("attention", MECHANISMS)
def test_logits_follow_from_the_arrays(attention: str, ngrams: int, output: tuple[int, str, bool]) -> None:
    model = build(attention, output=output, ngrams=ngrams, ngram_buckets=97)
    trace = model.trace(TEXT)
    a = doubles(trace)
    close(trace.logits, logits(model, ids_of(model, TEXT)))
    np.testing.assert_array_equal(trace.probabilities, model.predict_proba(TEXT)[0])
    if attention == "mlp":
        assert trace.contributions is None
    else:
        close(a["contributions"].sum(axis=0) + a["classifier_bias"], a["logits"])
    assert (trace.ngram_contributions is None) == (ngrams == 0)
    if attention in WITHOUT_WEIGHTS:
        assert trace.head_weights is None
        return
    if attention == "mlp":
        return
    heads = len(a["head_weights"])
    pooled = [a["head_weights"][h] @ a["values"][h if len(a["values"]) > 1 else 0] for h in range(heads)]
    linear = a["classifier_weight"] @ np.concatenate(pooled)
    linear_part = 0 if trace.ngram_contributions is None else a["ngram_contributions"].sum(axis=0)
    close(linear + a["classifier_bias"] + linear_part, a["logits"])


@pytest.mark.parametrize("anchor", ["none", "states"])
@pytest.mark.parametrize("attention", MECHANISMS)
def test_weights_follow_from_scores(attention: str, anchor: str) -> None:
    trace = build(attention, anchor=anchor).trace(TEXT)
    a = doubles(trace)
    seq = len(trace.tokens)
    if attention in (*WITHOUT_WEIGHTS, "mean", "self_attention"):
        assert trace.scores is None
    elif attention == "sigmoid":
        close(a["head_weights"], 1 / (1 + np.exp(-a["scores"])))
    else:
        assert trace.scores is not None
        assert trace.scores.shape == (2 if attention == "multi_head" else 1, seq)
        close(a["head_weights"], softmax(a["scores"]))
        assert np.ptp(a["head_weights"]) > 0.01  # or the softmax would hardly depend on the scores
    if attention == "mean":
        close(a["head_weights"], np.full((1, seq), 1 / seq))


def test_scores_are_those_of_the_equation() -> None:
    """Luong's dot product, from the query in the weights."""
    model = build("dot")
    trace = model.trace(TEXT)
    query = model_of(model).state_dict()["attention.query"].double().numpy()
    close(trace.scores, [[float(state @ query) for state in trace.states.astype(np.float64)]])


def test_the_map_of_self_attention() -> None:
    model = build("self_attention", "gru")
    trace = model.trace(TEXT)
    a = doubles(trace)
    seq = len(trace.tokens)
    assert trace.attention_map is not None
    assert trace.attention_map.shape == (2, seq, seq)
    close(a["attention_map"].sum(axis=2), np.ones((2, seq)))
    close(a["attention_map"].mean(axis=1), a["head_weights"])
    # From queries and keys, a pair of tokens at a time.
    weights = {name: value.double().numpy() for name, value in model_of(model).state_dict().items()}
    queries = a["states"] @ weights["attention.query.weight"].T + weights["attention.query.bias"]
    keys = a["states"] @ weights["attention.key.weight"].T
    size = queries.shape[1] // 2
    for head in range(2):
        part = slice(head * size, (head + 1) * size)
        scores = [[q[part] @ k[part] / size**0.5 for k in keys] for q in queries]
        close(a["attention_map"][head], softmax(np.array(scores)))


@pytest.mark.parametrize("attention", MECHANISMS)
def test_which_models_have_a_map_is_known_without_torch(attention: str) -> None:
    model = build(attention)
    assert (attention in MAPPED) == (model.trace(TEXT).attention_map is not None)
    assert not has_map(model)  # it has no files


def test_what_goes_in_is_what_the_tokenizer_and_the_embedding_say() -> None:
    model = build("additive", "lstm")
    trace = model.trace(TEXT)
    assert trace.text == TEXT
    assert trace.tokens == TEXT.split()
    assert trace.input_ids.tolist() == ids_of(model, TEXT)
    close(trace.embeddings, model_of(model).embedding.weight.detach().numpy()[trace.input_ids])
    assert trace.states.shape == (len(trace.tokens), 12)
    without = build("additive", "none").trace(TEXT)
    np.testing.assert_array_equal(without.states, without.embeddings)


def test_passages_change_the_weights_but_not_the_scores() -> None:
    plain, spread = build("additive"), build("additive", attention_window=3)
    a, b = plain.trace(TEXT), spread.trace(TEXT)
    np.testing.assert_array_equal(a.scores, b.scores)
    assert a.head_weights is not None
    assert b.head_weights is not None
    assert not np.allclose(a.head_weights, b.head_weights)
    assert b.head_weights.sum() == pytest.approx(1, abs=1e-5)


def test_a_run_that_answers_with_onnx_is_traced_in_torch(trained_run: Path) -> None:
    model = textattn.load(trained_run)
    assert model.runtime == "onnx"
    trace = model.trace("The film was a joy.")
    close(trace.probabilities, model.predict_proba("The film was a joy.")[0])
    # The calibrated answer.
    close(trace.probabilities, softmax(trace.logits.astype(np.float64) / model.config.temperature))
    explanation = model.explain("The film was a joy.", method="contributions")[0]
    assert explanation.tokens == trace.tokens
    assert explanation.contributions is not None
    assert trace.contributions is not None
    close(trace.contributions.T, [explanation.contributions[label] for label in model.labels])


def test_without_weights_there_is_no_trace(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    (run / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model.safetensors: no such file, and a trace needs it"):
        textattn.load(run).trace("x")


def test_a_text_has_the_segments_of_the_model() -> None:
    model: Model = build("additive")
    model.tokenizer.num_segments = 2
    model.config = replace(model.config, text_columns=["title", "body"])
    with pytest.raises(ConfigError, match="expected 2 segments"):
        model.trace(["a", "b", "c"])
    assert model.trace(["good", "food"]).text == "good\tfood"
