"""The classifier as an ONNX graph, written from its weights: no exporter, no tracing, no torch.

    input_ids, attention_mask   (batch, seq) int64; in each row the real tokens come first
    logits                      (batch, num_outputs)
    attention_weights           (batch, seq), 0 on padding
    context                     (batch, context_dim)

It computes what `textattn.model` computes, with the names used there. ONNX's own LSTM and GRU take the length of each
row (`sequence_lens`) and start their backward direction at the last real token, so nothing is needed to hide the
padding. In int8 the embedding has one scale a row, the LSTM one a gate and unit (ONNX Runtime's DynamicQuantizeLSTM),
the first layer of an attention one an output; ONNX Runtime has no such GRU, whose weights stay in fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]
Array = NDArray[Any]

OPSET = 17
# Of the file format; ONNX Runtime 1.16 and later read it.
IR_VERSION = 9
# Processors with AVX2 but without VNNI, which are many, add up two products in 16 bits: 2 * 255 * 64 still fits, larger
# int8 values would be cut off without a word.
LARGEST_FACTOR = 64
# Linear layers over the states that int8 is worth and harmless for (not queries and keys, which meet in an exponent),
# where their matrix has so many rows and columns.
QUANTISED = ("projection", "features")
LEAST_QUANTISED = 32
# Of `textattn.model.passages` and `textattn.model.ngrams`, which need torch.
PLACE_SCALE = 5.0
MULTIPLIERS, PRIME = (2_654_435_761, 1_640_531_527, 2_246_822_519), 2_147_483_647
OUTPUTS = ("logits", "attention_weights", "context")


class _Graph:
    """Nodes and constants as they are added; a value is known by its name."""

    def __init__(self, int8: bool) -> None:
        self.int8 = int8
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def constant(self, value: Array | list[int] | float, name: str | None = None) -> str:
        array = np.array(value, np.float32 if isinstance(value, float) else None, order="C")
        name = name or f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, name: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Adds a node and gives its first output."""
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def unsqueeze(self, x: str, axis: int) -> str:
        return self.op("Unsqueeze", x, self.constant([axis]))

    def squeeze(self, x: str, axis: int) -> str:
        return self.op("Squeeze", x, self.constant([axis]))

    def linear(self, x: str, weights: Weights, name: str) -> str:
        """x W^T + b, as torch.nn.Linear."""
        weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        biases = () if bias is None else (self.constant(bias, f"{name}.bias"),)
        if self.int8 and name in QUANTISED and min(weight.shape) >= LEAST_QUANTISED:
            quantised = self.quantised(weight, f"{name}.weight")
            return self.op("DynamicQuantizeMatMul", x, *quantised, *biases, domain="com.microsoft")
        y = self.op("MatMul", x, self.constant(weight.T, f"{name}.weight"))
        return self.op("Add", y, *biases) if biases else y

    def quantised(self, matrix: Array, name: str) -> tuple[str, str, str]:
        """Values, scales and zero points of (…, outputs, inputs), the values transposed as the operators want them."""
        values, scale = _quantise(matrix, LARGEST_FACTOR)
        return (
            self.constant(values.swapaxes(-1, -2), f"{name}_int8"),
            self.constant(scale.squeeze(-1), f"{name}_scale"),
            self.constant(np.zeros(scale.shape[:-1], np.int8), f"{name}_zero_point"),
        )


def build_graph(
    architecture: Mapping[str, Any], weights: Weights, metadata: Mapping[str, str], *, int8: bool = False
) -> ModelProto:
    """The graph of a model.

    Args:
        architecture: `textattn.model.classifier.Architecture` as config.json has it.
        weights: tensors of model.safetensors.
        metadata: stored in the file.
        int8: quantise the embedding, the LSTM and larger linear layers.

    Raises:
        KeyError: a weight is missing.
        ValueError: an unknown kind of attention or anchor.
    """
    graph = _Graph(int8)
    mask = graph.op("Cast", "attention_mask", to=TensorProto.BOOL)
    length = graph.op("ReduceSum", "attention_mask", graph.constant([1]), keepdims=1)  # (batch, 1)
    anchor = architecture.get("anchor", "none")
    if architecture["encoder"] == "none":
        states = _embed(graph, weights["embedding.weight"], "input_ids", int8)
    else:
        # Time first, as ONNX's recurrent operators want it; anchored states need the embeddings once more as they are.
        if anchor == "none":
            ids = graph.op("Transpose", "input_ids", perm=[1, 0])
            states = _embed(graph, weights["embedding.weight"], ids, int8)
        else:
            embeddings = _embed(graph, weights["embedding.weight"], "input_ids", int8)
            states = graph.op("Transpose", embeddings, perm=[1, 0, 2])
        lengths = graph.op("Cast", graph.squeeze(length, 1), to=TensorProto.INT32)
        for layer in range(architecture["num_layers"]):
            is_last = layer == architecture["num_layers"] - 1
            # (seq, directions, batch, size) -> (seq, batch, dim), at the end (batch, seq, dim)
            states = graph.op(
                "Transpose",
                _recurrent(graph, weights, architecture, layer, states, lengths, int8),
                perm=[2, 0, 1, 3] if is_last else [0, 2, 1, 3],
            )
            states = graph.op("Reshape", states, graph.constant([0, 0, -1]))
    scored = pooled = states
    if anchor != "none":
        scored = pooled = graph.op("Add", states, graph.linear(embeddings, weights, "anchor"))
    if anchor not in ("none", "states", "values"):
        raise ValueError(f"unknown anchor {anchor!r}")
    if anchor == "values":
        pooled = graph.op("Tanh", graph.linear(embeddings, weights, "values"))
    attention = _Attention(graph, weights, architecture, mask, length)
    context, attention_weights = attention.build(architecture["attention"], scored, pooled)
    graph.op("Identity", attention_weights, name="attention_weights")
    graph.op("Identity", context, name="context")
    logits = graph.linear("context", weights, "classifier")
    if architecture.get("ngrams", 0):
        logits = graph.op("Add", logits, _ngram_logits(graph, weights, architecture, mask, length))
    graph.op("Identity", logits, name="logits")
    return _model(graph, architecture["num_outputs"], weights["classifier.weight"].shape[1], metadata)


def _model(graph: _Graph, num_outputs: int, context_dim: int, metadata: Mapping[str, str]) -> ModelProto:
    shapes: list[list[str | int | None]] = [["batch", num_outputs], ["batch", "seq"], ["batch", context_dim]]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "textattn",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"])
                for name in ("input_ids", "attention_mask")
            ],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in zip(OUTPUTS, shapes, strict=True)
            ],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        ir_version=IR_VERSION,
        producer_name="textattn",
    )
    helper.set_model_props(model, dict(metadata))
    return model


def _embed(graph: _Graph, table: NDArray[np.float32], ids: str, int8: bool) -> str:
    """(a, b) -> (a, b, embedding_dim)"""
    if not int8:
        return graph.op("Gather", graph.constant(table, "embedding.weight"), ids, axis=0)
    values, scale = _quantise(table, 127)
    rows = graph.op("Gather", graph.constant(values, "embedding.weight_int8"), ids, axis=0)
    scales = graph.op("Gather", graph.constant(scale, "embedding.scale"), ids, axis=0)
    return graph.op("Mul", graph.op("Cast", rows, to=TensorProto.FLOAT), scales)


def _quantise(matrix: NDArray[np.float32], largest: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric, one scale for each row of the last dimension: values and scales with values * scales ~ matrix."""
    scale = np.maximum(np.abs(matrix).max(axis=-1, keepdims=True), np.finfo(np.float32).tiny) / np.float32(largest)
    return np.rint(matrix / scale).astype(np.int8), scale.astype(np.float32)


def _recurrent(
    graph: _Graph,
    weights: Weights,
    architecture: Mapping[str, Any],
    layer: int,
    inputs: str,
    lengths: str,
    int8: bool,
) -> str:
    """(seq, batch, input_size) -> (seq, directions, batch, hidden_size)."""
    lstm = architecture["encoder"] == "lstm"
    size = architecture["hidden_size"]
    suffixes = ("", "_reverse") if architecture["bidirectional"] else ("",)
    prefix = f"encoder.layers.{layer}"
    # torch stores the gates of an LSTM as i f g o, ONNX as i o f c; those of a GRU as r z n and z r h.
    order = (0, 3, 1, 2) if lstm else (1, 0, 2)

    def stacked(kind: str) -> Array:
        """(directions, gates * size, …), gates in ONNX's order."""
        rows = []
        for suffix in suffixes:
            gates = np.split(weights[f"{prefix}.{kind}_l0{suffix}"], len(order))
            rows.append(np.concatenate([gates[i] for i in order]))
        return np.stack(rows)

    w, r = stacked("weight_ih"), stacked("weight_hh")
    bias = graph.constant(np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1), f"{prefix}.bias")
    attributes = {"hidden_size": size, "direction": "bidirectional" if len(suffixes) == 2 else "forward"}
    if lstm and int8:
        w_int8, *w_scale = graph.quantised(w, f"{prefix}.weight_ih")
        r_int8, *r_scale = graph.quantised(r, f"{prefix}.weight_hh")
        states = graph.op(
            "DynamicQuantizeLSTM", inputs, w_int8, r_int8, bias, lengths, "", "", "", *w_scale, *r_scale,
            domain="com.microsoft", **attributes,
        )  # fmt: skip
    else:
        matrices = graph.constant(w, f"{prefix}.weight_ih"), graph.constant(r, f"{prefix}.weight_hh")
        if not lstm:
            attributes["linear_before_reset"] = 1
        states = graph.op("LSTM" if lstm else "GRU", inputs, *matrices, bias, lengths, **attributes)
    return states


def _ngram_logits(graph: _Graph, weights: Weights, architecture: Mapping[str, Any], mask: str, length: str) -> str:
    """As `textattn.model.ngrams`: (batch, num_outputs)."""
    op, constant = graph.op, graph.constant
    table = constant(weights["ngrams.weights.weight"], "ngrams.weights.weight")
    known = op("And", mask, op("Not", op("Equal", "input_ids", constant(np.int64(architecture["unk_id"])))))
    buckets, total = constant(np.int64(architecture["ngram_buckets"])), ""
    for extra in range(architecture["ngrams"]):
        number, there = constant(np.int64(extra)), ""
        for place in range(extra + 1):
            part = [constant([extra - place]), constant([-place or np.iinfo(np.int64).max]), constant([1])]
            term = op("Mul", op("Slice", "input_ids", *part), constant(np.int64(MULTIPLIERS[place])))
            number = op("Add", number, term)
            each = op("Slice", known, *part)
            there = op("And", there, each) if there else each
        bucket = op("Mod", op("Mod", number, constant(np.int64(PRIME))), buckets)
        found = op("Gather", table, bucket, axis=0)  # (batch, runs, num_outputs)
        counted = op("Mul", found, graph.unsqueeze(op("Cast", there, to=TensorProto.FLOAT), 2))
        part_of_logits = op("ReduceSum", counted, constant([1]), keepdims=0)
        total = op("Add", total, part_of_logits) if total else part_of_logits
    return op("Div", total, op("Sqrt", op("Cast", length, to=TensorProto.FLOAT)))


class _Attention:
    """The mechanisms of `textattn.model.attention`: states (batch, seq, dim) -> context, weights."""

    def __init__(
        self, graph: _Graph, weights: Weights, architecture: Mapping[str, Any], mask: str, length: str
    ) -> None:
        self.graph = graph
        self.weights = {
            name.removeprefix("attention."): value for name, value in weights.items() if name.startswith("attention.")
        }
        self.num_heads = architecture["num_heads"]
        self.state_dim = architecture["embedding_dim"]
        self.two_directions = architecture["bidirectional"] and architecture["encoder"] != "none"
        if architecture["encoder"] != "none":
            self.state_dim = architecture["hidden_size"] * (1 + self.two_directions)
        self.mask = mask
        self.length = length
        self.window = architecture.get("attention_window", 1)
        self.place = weights["passages.place"] if architecture.get("attention_position", False) else None

    def build(self, name: str, scored: str, pooled: str) -> tuple[str, str]:
        """The mechanism of that name."""
        op, linear = self.graph.op, self.graph.linear
        if name == "additive":
            return self.pool(
                linear(op("Tanh", linear(scored, self.weights, "projection")), self.weights, "score"), pooled
            )
        if name == "sigmoid":
            scores = linear(op("Tanh", linear(scored, self.weights, "projection")), self.weights, "score")
            return self.sigmoid(op("Add", scores, self.graph.constant(self.weights["bias"])), pooled)
        if name in ("dot", "scaled_dot"):
            scale = self.state_dim**-0.5 if name == "scaled_dot" else 1.0
            return self.pool(op("MatMul", scored, self.column(self.weights["query"] * np.float32(scale))), pooled)
        if name == "general":
            # q^T W h = (W^T q)^T h
            return self.pool(
                op("MatMul", scored, self.column(self.weights["query"] @ self.weights["weight.weight"])), pooled
            )
        if name == "mlp":
            return self.mlp(scored, pooled)
        if name == "multi_head":
            return self.multi_head(scored, pooled)
        if name == "self_attention":
            return self.self_attention(scored, pooled)
        if name == "mean":
            return self.weighted(self.graph.unsqueeze(self.uniform(), 1), pooled)
        # These have no weights of their own: what they pool is what they look at.
        if name == "max":
            return self.max(scored)
        if name == "last":
            return self.last(scored)
        raise ValueError(f"unknown attention {name!r}")

    def column(self, vector: Array) -> str:
        return self.graph.constant(vector.astype(np.float32)[:, None])

    def softmax(self, scores: str, mask: str) -> str:
        """Over the last dimension; exactly 0 where the mask is False."""
        return self.graph.op(
            "Softmax", self.graph.op("Where", mask, scores, self.graph.constant(float("-inf"))), axis=-1
        )

    def weighted_sum(self, weights: str, states: str) -> str:
        """(batch, seq), (batch, seq, dim) -> (batch, dim)."""
        return self.graph.squeeze(self.graph.op("MatMul", self.graph.unsqueeze(weights, 1), states), 1)

    def pool(self, scores: str, states: str) -> tuple[str, str]:
        """scores: (batch, seq, 1)."""
        weights = self.softmax(self.graph.squeeze(scores, 2), self.mask)
        return self.weighted(self.graph.unsqueeze(weights, 1), states)

    def sigmoid(self, scores: str, states: str) -> tuple[str, str]:
        """scores: (batch, seq, 1)."""
        op, constant = self.graph.op, self.graph.constant
        each = op("Where", self.mask, op("Sigmoid", self.graph.squeeze(scores, 2)), constant(0.0))
        context, weights = self.weighted(self.graph.unsqueeze(each, 1), states)
        total = op("Max", op("ReduceSum", weights, constant([1]), keepdims=1), constant(1e-12))
        return context, op("Div", weights, total)

    def weighted(self, weights: str, states: str) -> tuple[str, str]:
        """weights: (batch, 1, seq)."""
        weights = self.on_passages(weights)
        return self.graph.squeeze(self.graph.op("MatMul", weights, states), 1), self.graph.squeeze(weights, 1)

    def on_passages(self, weights: str) -> str:
        """As `textattn.model.passages`: (batch, heads, seq) -> the same."""
        op, constant = self.graph.op, self.graph.constant
        if self.place is None and self.window == 1:
            return weights
        real = op("Cast", self.graph.unsqueeze("attention_mask", 1), to=TensorProto.FLOAT)  # (batch, 1, seq)
        if self.place is not None:
            weights = op("Mul", weights, self.preference(real))
            weights = op("Div", weights, op("ReduceSum", weights, constant([2]), keepdims=1))
        if self.window == 1:
            return weights
        return op("Mul", self.sums(op("Div", weights, op("Max", self.sums(real), constant(1.0)))), real)

    def preference(self, real: str) -> str:
        """(batch, 1, seq)"""
        op, constant = self.graph.op, self.graph.constant
        assert self.place is not None
        last = len(self.place) - 1
        middle = op("Sub", op("CumSum", real, constant(np.int64(2))), constant(0.5))
        at = op("Mul", op("Div", middle, op("ReduceSum", real, constant([2]), keepdims=1)), constant(float(last)))
        before = op("Clip", op("Floor", at), constant(0.0), constant(float(last - 1)))
        b = (PLACE_SCALE * (self.place - self.place.max())).astype(np.float32)
        number = op("Cast", before, to=TensorProto.INT64)
        start, rise = (op("Gather", constant(values), number) for values in (b[:-1], np.diff(b)))
        return op("Exp", op("Add", start, op("Mul", rise, op("Sub", at, before))))

    def sums(self, x: str) -> str:
        """(batch, channels, seq): over the window around each token."""
        pads = [self.window // 2] * 2
        mean = self.graph.op("AveragePool", x, kernel_shape=[self.window], pads=pads, count_include_pad=1)
        return self.graph.op("Mul", mean, self.graph.constant(float(self.window)))

    def uniform(self) -> str:
        """1 / length at every real token: (batch, seq)."""
        cast = [self.graph.op("Cast", x, to=TensorProto.FLOAT) for x in ("attention_mask", self.length)]
        return self.graph.op("Div", *cast)

    def mlp(self, scored: str, pooled: str) -> tuple[str, str]:
        graph = self.graph
        features = graph.op("Relu", graph.linear(scored, self.weights, "features"))
        context, weights = self.pool(
            graph.linear(graph.op("Concat", features, scored, axis=-1), self.weights, "score"), pooled
        )
        mean = self.weighted_sum(self.uniform(), pooled)
        combined = graph.linear(graph.op("Concat", context, mean, axis=-1), self.weights, "combine")
        return graph.op("Tanh", combined), weights

    def multi_head(self, scored: str, pooled: str) -> tuple[str, str]:
        graph = self.graph
        hidden = graph.op("Tanh", graph.linear(scored, self.weights, "projection"))
        scores = graph.op("Transpose", graph.linear(hidden, self.weights, "score"), perm=[0, 2, 1])
        weights = self.on_passages(self.softmax(scores, graph.unsqueeze(self.mask, 1)))  # (batch, heads, seq)
        context = graph.op("Flatten", graph.op("MatMul", weights, pooled), axis=1)
        return context, graph.op("ReduceMean", weights, axes=[1], keepdims=0)

    def self_attention(self, scored: str, pooled: str) -> tuple[str, str]:
        graph = self.graph
        head_dim = self.state_dim // self.num_heads

        def heads(name: str, states: str, perm: list[int]) -> str:
            split = graph.op(
                "Reshape", graph.linear(states, self.weights, name), graph.constant([0, 0, self.num_heads, head_dim])
            )
            return graph.op("Transpose", split, perm=perm)

        # (batch, heads, seq, d) times (batch, heads, d, seq)
        scores = graph.op("MatMul", heads("query", scored, [0, 2, 1, 3]), heads("key", scored, [0, 2, 3, 1]))
        scores = graph.op("Mul", scores, graph.constant(float(head_dim**-0.5)))
        looks = self.softmax(scores, graph.op("Unsqueeze", self.mask, graph.constant([1, 2])))
        share = graph.op("Unsqueeze", self.uniform(), graph.constant([1, 2]))  # (batch, 1, 1, seq)
        received = self.on_passages(graph.squeeze(graph.op("MatMul", share, looks), 2))  # (batch, heads, seq)
        values = heads("value", pooled, [0, 2, 1, 3])
        context = graph.op("Flatten", graph.op("MatMul", graph.unsqueeze(received, 2), values), axis=1)
        return context, graph.op("ReduceMean", received, axes=[1], keepdims=0)

    def max(self, states: str) -> tuple[str, str]:
        graph = self.graph
        real = graph.op("Where", graph.unsqueeze(self.mask, 2), states, graph.constant(float("-inf")))
        context = graph.op("ReduceMax", real, axes=[1], keepdims=0)
        won = self.one_hot(graph.op("ArgMax", real, axis=1, keepdims=0))  # (batch, dim, seq)
        return context, graph.op("ReduceMean", won, axes=[1], keepdims=0)

    def last(self, states: str) -> tuple[str, str]:
        graph = self.graph
        position = graph.op("Sub", graph.squeeze(self.length, 1), graph.constant(np.int64(1)))
        weights = self.one_hot(position)  # (batch, seq)
        final = self.weighted_sum(weights, states)
        if not self.two_directions:
            return final, weights
        # The backward direction ends at the first token.
        first = graph.op("Gather", states, graph.constant(np.int64(0)), axis=1)
        half = np.arange(self.state_dim) < self.state_dim // 2
        context = graph.op("Where", graph.constant(half), final, first)
        at_first = self.one_hot(graph.op("Mul", position, graph.constant(np.int64(0))))
        both = graph.op("Add", weights, at_first)
        return context, graph.op("Mul", both, graph.constant(0.5))

    def one_hot(self, positions: str) -> str:
        """(…) int64 -> (…, seq), 1 at the position."""
        graph = self.graph
        seq = graph.op("Gather", graph.op("Shape", "input_ids"), graph.constant([1]), axis=0)
        return graph.op("OneHot", positions, seq, graph.constant(np.array([0, 1], np.float32)), axis=-1)
