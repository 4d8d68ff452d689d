"""A builder of ONNX graphs. Each part of the model adds nodes to it that compute the same as the part in torch.

Only the export imports this module at run time, because importing `onnx` takes time that training does not need.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

Array = NDArray[Any]

# Many processors have AVX2 but not VNNI. They add two products in 16 bits, where 2 * 255 * 64 fits but larger int8
# values would saturate silently.
LARGEST_FACTOR = 64
# Smaller matrices are not worth quantising.
LEAST_QUANTISED = 32


class OnnxGraph:
    """The nodes and constants of the graph of a text classifier. Every value is identified by its name, a string.

    The graph begins with the inputs `input_ids` and `attention_mask`, both (batch, seq) int64. In each row the real
    tokens come first.
    """

    def __init__(self, *, int8: bool = False) -> None:
        """Begins a graph.

        Args:
            int8: quantise the weights of parts that support it.
        """
        self.int8 = int8
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.names: set[str] = set()
        """The results of all nodes."""
        self._set_mask("attention_mask")

    def _set_mask(self, attention_mask: str) -> None:
        self.attention_mask = attention_mask
        """(batch, seq) int64, 1 at real tokens"""
        self.mask = self.cast(attention_mask, np.bool_)
        """(batch, seq) bool, True at real tokens"""
        self.length = self.op("ReduceSum", attention_mask, self.constant([1]), keepdims=1)
        """(batch, 1) int64, number of real tokens"""

    @contextlib.contextmanager
    def masked_by(self, attention_mask: str) -> Iterator[None]:
        """Inside, `mask`, `length` and `attention_mask` are those of other rows, such as windows of the texts.

        Args:
            attention_mask: (rows, length) int64, 1 at real tokens.
        """
        before = self.attention_mask, self.mask, self.length
        self._set_mask(attention_mask)
        try:
            yield
        finally:
            self.attention_mask, self.mask, self.length = before

    @cached_property
    def seq(self) -> str:
        """(1,) int64, number of tokens of a row with its padding."""
        return self.op("Gather", self.op("Shape", "input_ids"), self.constant([1]), axis=0)

    def constant(self, value: Tensor | Array | np.generic | list[int] | float, name: str | None = None) -> str:
        """Adds a constant. Floats become fp32 and integers int64; arrays and tensors keep their dtype."""
        if isinstance(value, Tensor):
            value = self.array(value)
        plain_types = {float: np.float32, int: np.int64, list: np.int64}
        array = np.array(value, plain_types.get(type(value)), order="C")
        name = name or f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, name: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Adds a node and returns the name of its first output."""
        name = name or f"{kind}_{len(self.nodes)}"
        self.names.add(name)
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def cast(self, x: str, dtype: type[np.generic]) -> str:
        """Converts the elements of `x`."""
        return self.op("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def unsqueeze(self, x: str, *axes: int) -> str:
        """Inserts dimensions of size 1."""
        return self.op("Unsqueeze", x, self.constant(list(axes)))

    def squeeze(self, x: str, axis: int) -> str:
        """Removes a dimension of size 1."""
        return self.op("Squeeze", x, self.constant([axis]))

    def linear(self, x: str, layer: nn.Linear, name: str, *, quantise: bool = False) -> str:
        """x W^T + b.

        Args:
            x: (…, inputs)
            layer: W and b.
            name: the name of the layer, which its constants begin with; unique in the graph.
            quantise: whether an int8 graph may round the weights, with one scale for each output. Do not allow this if
                outputs are multiplied with each other before a softmax, as queries and keys are, because the errors
                would grow exponentially.

        Returns:
            (…, outputs)
        """
        weight = self.array(layer.weight)
        biases = () if layer.bias is None else (self.constant(layer.bias, f"{name}.bias"),)
        if self.int8 and quantise and min(weight.shape) >= LEAST_QUANTISED:
            quantised = self.quantised(weight, f"{name}.weight")
            return self.op("DynamicQuantizeMatMul", x, *quantised, *biases, domain="com.microsoft")
        y = self.op("MatMul", x, self.constant(weight.T, f"{name}.weight"))
        return self.op("Add", y, *biases) if biases else y

    def quantised(self, matrix: Array, name: str) -> tuple[str, str, str]:
        """Adds int8 values, scales and zero points of a matrix (…, outputs, inputs), one scale for each output.

        The values are transposed to (…, inputs, outputs), as ONNX Runtime's operators expect.
        """
        values, scale = self.quantise(matrix, LARGEST_FACTOR)
        return (
            self.constant(values.swapaxes(-1, -2), f"{name}_int8"),
            self.constant(scale.squeeze(-1), f"{name}_scale"),
            self.constant(np.zeros(scale.shape[:-1], np.int8), f"{name}_zero_point"),
        )

    def masked_softmax(self, scores: str, mask: str) -> str:
        """Softmax over the last dimension, exactly 0 where `mask` (broadcastable to `scores`) is False."""
        return self.op("Softmax", self.op("Where", mask, scores, self.constant(float("-inf"))), axis=-1)

    def weighted_sum(self, weights: str, states: str) -> str:
        """(batch, seq), (batch, seq, dim) -> (batch, dim)."""
        return self.squeeze(self.op("MatMul", self.unsqueeze(weights, 1), states), 1)

    def uniform_weights(self) -> str:
        """(batch, seq): 1 / length at every real token, 0 on padding."""
        real, length = (self.cast(x, np.float32) for x in (self.attention_mask, self.length))
        return self.op("Div", real, length)

    def one_hot(self, positions: str) -> str:
        """(…) int64 -> (…, seq), 1 at the position and 0 elsewhere."""
        return self.op("OneHot", positions, self.seq, self.constant(np.array([0, 1], np.float32)), axis=-1)

    @staticmethod
    def array(tensor: Tensor) -> Array:
        """The numbers of a parameter."""
        return np.asarray(tensor.detach().cpu().numpy())

    @staticmethod
    def quantise(matrix: Array, largest: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Symmetric quantisation with one scale for each row of the last dimension.

        Returns:
            Values between -`largest` and `largest`, and scales, with values * scales close to `matrix`.
        """
        scale = np.maximum(np.abs(matrix).max(axis=-1, keepdims=True), np.finfo(np.float32).tiny) / np.float32(largest)
        return np.rint(matrix / scale).astype(np.int8), scale.astype(np.float32)
