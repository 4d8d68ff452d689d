"""The model written a second time, from the equations: one text at a time, in numpy and float64.

States are (seq, dim) of one text; parameters are the arrays of a state_dict by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]
Parameters = Mapping[str, Array]


def parameters_of(module: nn.Module) -> dict[str, Array]:
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(scores: list[float]) -> list[float]:
    exponentials = [math.exp(score - max(scores)) for score in scores]
    return [e / sum(exponentials) for e in exponentials]


def pool(weights: list[float], states: Array) -> Array:
    return np.sum([w * h for w, h in zip(weights, states, strict=True)], axis=0)


def anchored(kind: str, p: Parameters, states: Array, embeddings: Array) -> tuple[Array, Array]:
    """What is scored and what is pooled; `p` are the parameters of the whole model."""
    if kind == "none":
        return states, states
    scored = np.array([h + p["anchor.weight"] @ x for h, x in zip(states, embeddings, strict=True)])
    if kind == "states":
        return scored, scored
    assert kind == "values"
    return scored, np.array([np.tanh(p["values.weight"] @ x + p["values.bias"]) for x in embeddings])


Shape = Callable[[list[float]], list[float]]


def on_passages(window: int, place: Array | None) -> Shape:
    """What becomes of the weights of a text: by their place, then shared out over a window around each token."""

    def shape(weights: list[float]) -> list[float]:
        seq = len(weights)
        if place is not None:
            at = [(i + 0.5) / seq * (len(place) - 1) for i in range(seq)]
            b = np.interp(at, range(len(place)), 5 * place)
            raised = [w * math.exp(preference) for w, preference in zip(weights, b, strict=True)]
            weights = [w / sum(raised) for w in raised]
        shared = [0.0] * seq
        for i, weight in enumerate(weights):
            around = range(max(0, i - window // 2), min(seq, i + window // 2 + 1))
            for j in around:
                shared[j] += weight / len(around)
        return shared

    return shape


def attend(
    name: str,
    p: Parameters,
    states: Array,
    num_heads: int = 1,
    bidirectional: bool = False,
    pooled: Array | None = None,
    shape: Shape = list,
) -> tuple[Array, Array]:
    """(context, weights) of one text; `pooled` is what is summed where that is not what is scored."""
    seq, dim = states.shape
    values = states if pooled is None else pooled
    if name == "additive":
        weights = softmax(
            [
                float(
                    p["score.weight"][0] @ np.tanh(p["projection.weight"] @ h + p["projection.bias"])
                )  # v^T tanh(Wh+b)
                for h in states
            ]
        )
    elif name == "sigmoid":
        scores = [
            float(p["score.weight"][0] @ np.tanh(p["projection.weight"] @ h + p["projection.bias"])) for h in states
        ]
        weights = shape([1 / (1 + math.exp(-score - float(p["bias"][0]))) for score in scores])
        return pool(weights, values), np.array(weights) / sum(weights)
    elif name == "dot":
        weights = softmax([float(p["query"] @ h) for h in states])
    elif name == "scaled_dot":
        weights = softmax([float(p["query"] @ h) / math.sqrt(dim) for h in states])
    elif name == "general":
        weights = softmax([float(p["query"] @ (p["weight.weight"] @ h)) for h in states])
    elif name == "mlp":
        scores = []
        for h in states:
            features = np.maximum(p["features.weight"] @ h + p["features.bias"], 0)
            scores.append(float(p["score.weight"][0] @ np.concatenate([features, h])))
        weights = shape(softmax(scores))
        both = np.concatenate([pool(weights, values), np.mean(values, axis=0)])
        return np.tanh(p["combine.weight"] @ both + p["combine.bias"]), np.array(weights)
    elif name == "multi_head":
        heads = [
            shape(softmax([float(row @ np.tanh(p["projection.weight"] @ h)) for h in states]))
            for row in p["score.weight"]
        ]
        return np.concatenate([pool(weights, values) for weights in heads]), np.mean(heads, axis=0)
    elif name == "self_attention":
        return self_attention(p, states, num_heads, values, shape)
    elif name == "mean":
        weights = [1 / seq] * seq
    elif name == "max":
        winners = [max(range(seq), key=lambda i: states[i, feature]) for feature in range(dim)]
        context = np.array([states[winner, feature] for feature, winner in enumerate(winners)])
        return context, np.array([winners.count(i) / dim for i in range(seq)])
    else:
        assert name == "last"
        weights = [0.0] * seq
        weights[-1] += 0.5
        weights[0 if bidirectional else -1] += 0.5
        if bidirectional:
            return np.concatenate([states[-1, : dim // 2], states[0, dim // 2 :]]), np.array(weights)
    weights = shape(weights)
    return pool(weights, values), np.array(weights)


def self_attention(p: Parameters, states: Array, num_heads: int, pooled: Array, shape: Shape) -> tuple[Array, Array]:
    """Every token looks at all tokens; outputs are averaged over the tokens that look."""
    seq, dim = states.shape
    queries = states @ p["query.weight"].T + p["query.bias"]
    keys = states @ p["key.weight"].T
    values = pooled @ p["value.weight"].T + p["value.bias"]
    size = dim // num_heads
    contexts, received = [], np.zeros(seq)
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        looks = [
            softmax([float(queries[i, part] @ keys[j, part]) / math.sqrt(size) for j in range(seq)]) for i in range(seq)
        ]
        weights = shape([float(np.mean([look[j] for look in looks])) for j in range(seq)])
        received += np.array(weights) / num_heads
        contexts.append(pool(weights, values[:, part]))
    return np.concatenate(contexts), received


def lstm(p: Parameters, inputs: Array, suffix: str = "") -> Array:
    """Hochreiter & Schmidhuber 1997 with forget gates; torch's order of gates i, f, g, o."""
    w, u = p[f"weight_ih_l0{suffix}"], p[f"weight_hh_l0{suffix}"]
    bias = p[f"bias_ih_l0{suffix}"] + p[f"bias_hh_l0{suffix}"]
    h = c = np.zeros(u.shape[1])
    states = []
    for x in inputs:
        i, f, g, o = np.split(w @ x + u @ h + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def gru(p: Parameters, inputs: Array, suffix: str = "") -> Array:
    """Cho et al. 2014 in the form of cuDNN; torch's order of gates r, z, n."""
    h = np.zeros(p[f"weight_hh_l0{suffix}"].shape[1])
    states = []
    for x in inputs:
        from_input = np.split(p[f"weight_ih_l0{suffix}"] @ x + p[f"bias_ih_l0{suffix}"], 3)
        from_state = np.split(p[f"weight_hh_l0{suffix}"] @ h + p[f"bias_hh_l0{suffix}"], 3)
        r = sigmoid(from_input[0] + from_state[0])
        z = sigmoid(from_input[1] + from_state[1])
        n = np.tanh(from_input[2] + r * from_state[2])
        h = (1 - z) * n + z * h
        states.append(h)
    return np.array(states)


def encode(kind: str, p: Parameters, inputs: Array, num_layers: int, bidirectional: bool) -> Array:
    run = {"lstm": lstm, "gru": gru}[kind]
    for layer in range(num_layers):
        own = inside(p, f"layers.{layer}.")
        states = run(own, inputs)
        if bidirectional:
            backward = run(own, inputs[::-1], "_reverse")[::-1]
            states = np.concatenate([states, backward], axis=1)
        inputs = states
    return inputs


def inside(p: Parameters, prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): value for name, value in p.items() if name.startswith(prefix)}


def of_ngrams(table: Array, text: list[int], longest: int, unk_id: int) -> Array:
    """(outputs,): rows of the table, found by numbers of any size, over the root of the tokens."""
    total = np.zeros(table.shape[1])
    for n in range(1, longest + 1):
        for start in range(len(text) - n + 1):
            run = text[start : start + n]
            if unk_id not in run:
                factors = (2654435761, 1640531527, 2246822519)
                number = n - 1 + sum(token * factor for token, factor in zip(reversed(run), factors, strict=False))
                total += table[number % 2147483647 % len(table)]
    return np.asarray(total / math.sqrt(len(text)))


def in_windows(name: str, p: Parameters, scored: Array, size: int, then: Shape) -> Shape:
    """Takes the place of the weights of a whole text, one call for each head: those within each window, times the
    share of the window."""
    own = inside(p, "attention.")
    by_window: list[list[list[float]]] = []
    scores = []
    parts = [scored[start : start + size] for start in range(0, len(scored), size)]
    for part in parts:
        heads: list[list[float]] = []

        def keep(weights: list[float], heads: list[list[float]] = heads) -> list[float]:
            heads.append(weights)
            return weights

        context, _ = attend(name, own, part, shape=keep)
        hidden = np.tanh(p["windows.projection.weight"] @ context + p["windows.projection.bias"])
        scores.append(float(p["windows.score.weight"][0] @ hidden) + math.log(len(part)))
        by_window.append(heads)
    shares = softmax(scores)
    calls = iter(range(10))

    def shape(_: list[float]) -> list[float]:
        head = next(calls)
        return then([b * a for b, heads in zip(shares, by_window, strict=True) for a in heads[head]])

    return shape


def classify(model: nn.Module, text: list[int]) -> dict[str, Array]:
    """What a `TextClassifier` gives for one text, with the names of its output."""
    a, p = model.architecture, parameters_of(model)
    states = embeddings = p["embedding.weight"][text]
    both = a.bidirectional and a.encoder != "none"
    if a.encoder != "none":
        states = encode(a.encoder, inside(p, "encoder."), embeddings, a.num_layers, both)
    if a.encoder != "none" and a.window_size:
        parts = []
        for start in range(0, len(text), a.window_size):
            first = max(0, start - a.window_context)
            last = first + a.window_size + 2 * a.window_context
            found = encode(a.encoder, inside(p, "encoder."), embeddings[first:last], a.num_layers, both)
            parts.append(found[start - first : start - first + a.window_size])
        states = np.concatenate(parts)
    scored, pooled = anchored(a.anchor, p, states, embeddings)
    shape = on_passages(a.attention_window, p.get("passages.place"))
    if a.window_size:
        shape = in_windows(a.attention, p, scored, a.window_size, shape)
    context, weights = attend(a.attention, inside(p, "attention."), scored, a.num_heads, both, pooled, shape)
    logits = p["classifier.weight"] @ context + p["classifier.bias"]
    if a.ngrams:
        logits = logits + of_ngrams(p["ngrams.weights.weight"], text, a.ngrams, a.unk_id)
    return {
        "logits": logits,
        "attention_weights": weights,
        "context": context,
        "hidden_states": pooled,
        "encoder_states": states,
        "embeddings": embeddings,
    }
