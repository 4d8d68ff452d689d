"""The classifier as an ONNX graph. It is assembled from the parts of the model, without an exporter or tracing.

    input_ids, attention_mask   (batch, seq) int64; in each row the real tokens come first
    logits                      (batch, num_outputs)
    attention_weights           (batch, seq), 0 on padding
    context                     (batch, context_dim)
    contributions               (batch, seq, num_outputs), 0 on padding; see `TextClassifier.contributions`
    ngram_contributions         (batch, seq, num_outputs), the part of n-grams in it

The last two are missing where the attention is not additive or the model has no n-grams. They cost nothing unless they
are asked for.

Each part of `textattn.model` adds its nodes. In int8, the embedding has one scale for each row, and the first layer of
an attention has one for each output. An encoder has one for each gate and unit if ONNX Runtime has an int8 operator for
it, and stays in fp32 if not.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto, TensorProto, helper

from textattn.model.attention import WeightedPooling
from textattn.model.classifier import TextClassifier
from textattn.model.onnx_graph import OnnxGraph

OPSET = 17
# Version of the file format; ONNX Runtime 1.16 and later read it.
IR_VERSION = 9
INPUTS = ("input_ids", "attention_mask")


def build_graph(model: TextClassifier, metadata: Mapping[str, str], *, int8: bool = False) -> ModelProto:
    """Build the graph of a model.

    Args:
        model: its parameters become constants of the graph.
        metadata: stored in the file.
        int8: quantise the embedding, the encoder and larger linear layers, if they support it.

    Raises:
        NotImplementedError: a part of the model has no ONNX form.
    """
    graph = OnnxGraph(int8=int8)
    embeddings = ""  # (batch, seq, embedding_dim), only needed if something besides the encoder reads them
    if model.encoder is None:
        states = model.embedding.to_onnx(graph, "input_ids")
    elif model.windows is not None:
        embeddings = model.embedding.to_onnx(graph, "input_ids")
        states = model.windows.encode_onnx(graph, model.encoder, embeddings)
    elif model.anchor is None:
        # Encoders expect time first, and transposing the ids is cheaper than transposing the embeddings.
        ids = graph.op("Transpose", "input_ids", perm=[1, 0])
        states = model.encoder.to_onnx(graph, model.embedding.to_onnx(graph, ids))
    else:
        embeddings = model.embedding.to_onnx(graph, "input_ids")
        states = model.encoder.to_onnx(graph, graph.op("Transpose", embeddings, perm=[1, 0, 2]))
    scored = pooled = states
    if model.anchor is not None:
        scored = pooled = graph.op("Add", states, graph.linear(embeddings, model.anchor, "anchor"))
    if model.values is not None:
        pooled = graph.op("Tanh", graph.linear(embeddings, model.values, "values"))
    matrix = model.classifier.weight
    if isinstance(model.attention, WeightedPooling):
        found = model.attention.to_onnx(graph, scored, pooled, matrix, model.passages, model.windows)
    else:
        found = model.attention.to_onnx(graph, scored, pooled, matrix)
    context, shares, contributions = found
    graph.op("Identity", shares, name="attention_weights")
    graph.op("Identity", context, name="context")
    num_outputs = model.classifier.out_features
    outputs: dict[str, list[str | int]] = {
        "logits": ["batch", num_outputs],
        "attention_weights": ["batch", "seq"],
        "context": ["batch", model.classifier.in_features],
    }
    logits = graph.linear("context", model.classifier, "classifier")
    ngram_contributions = None
    if model.ngrams is not None:
        ngram_logits, ngram_contributions = model.ngrams.to_onnx(graph)
        logits = graph.op("Add", logits, ngram_logits)
    graph.op("Identity", logits, name="logits")
    if contributions is not None:
        real = graph.unsqueeze(graph.mask, 2)
        for name, part in (("contributions", contributions), ("ngram_contributions", ngram_contributions)):
            if part is None:
                continue
            if name == "contributions" and ngram_contributions is not None:
                part = graph.op("Add", part, ngram_contributions)
            graph.op("Where", real, part, graph.constant(0.0), name=name)
            outputs[name] = ["batch", "seq", num_outputs]
    return _to_model(graph, outputs, metadata)


def _to_model(graph: OnnxGraph, outputs: Mapping[str, list[str | int]], metadata: Mapping[str, str]) -> ModelProto:
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "textattn",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"]) for name in INPUTS],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        ir_version=IR_VERSION,
        producer_name="textattn",
    )
    helper.set_model_props(model, dict(metadata))
    return model
