"""The base of recurrent encoders: several layers and two directions, exact for padded batches without packing.

`pack_padded_sequence` is exact but slow, because on a CPU each time step is a separate slice. A plain bidirectional
network over padded texts is fast but wrong, because its backward direction reads the padding first. This implementation
is exact and still needs only one fused kernel for each direction.

On a CPU, where a kernel computes one direction, the backward direction is a forward pass over reversed texts, whose
padding stays at the end. On CUDA, where one kernel computes both directions, reversing would take as long as the
kernel, so the padding is hidden instead: every layer gets an additional input that is 1 on padding, and its fixed
weight closes one gate of both directions. The state then stays 0 on padding, and the backward direction reaches the
last real token with the zero state that it should start from.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from textattn.model.dropout import Dropout

if TYPE_CHECKING:
    from textattn.model.onnx_graph import Array, OnnxGraph

# sigmoid(-1e4) is exactly 0 and sigmoid(1e4) exactly 1 in fp32, bf16 and fp16 (largest value 65504).
SHUT = 1e4
# One input is enough, but kernels are faster with even numbers.
PADDING_INPUTS = 4


@dataclass(frozen=True)
class EncoderSizes:
    """The sizes that an encoder is built from."""

    input_size: int
    """Size of an embedding."""
    hidden_size: int
    """Units of each direction."""
    num_layers: int
    bidirectional: bool

    @property
    def output_size(self) -> int:
        """Size of a state."""
        return self.hidden_size * (2 if self.bidirectional else 1)


class RecurrentEncoder(nn.Module):
    """Recurrent layers over padded embeddings. The result is the same as for each text alone.

    A subclass names its layer in torch, its operator in ONNX, and the gate that is closed on padding.
    """

    layer_class: ClassVar[type[nn.LSTM] | type[nn.GRU]]
    num_gates: ClassVar[int]
    """Number of blocks of `hidden_size` rows in the weights of a layer."""
    padding_gate: ClassVar[int]
    """Index of the gate that keeps the state at 0 on padding."""
    padding_input: ClassVar[float]
    """Added to the input of this gate on padding: `SHUT` or `-SHUT`."""
    onnx_operator: ClassVar[str | None] = None
    """None: the encoder has no ONNX form. The model can still be trained and used in torch."""
    onnx_gates: ClassVar[tuple[int, ...]]
    """Indices of torch's gates in the order of ONNX."""
    onnx_attributes: ClassVar[dict[str, int]] = {}
    """Attributes of the ONNX operator besides size and direction."""
    onnx_int8_operator: ClassVar[str | None] = None
    """ONNX Runtime's operator with int8 weights, one scale for each gate and unit. None: weights stay in fp32."""

    def __init__(self, sizes: EncoderSizes, dropout: float) -> None:
        """Builds the layers.

        Args:
            sizes: the sizes of the layers.
            dropout: share of the outputs of each layer that are set to 0 in training before the next layer reads them.
        """
        super().__init__()
        self.bidirectional = sizes.bidirectional
        self.input_size, self.output_size = sizes.input_size, sizes.output_size
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            self.layer_class(
                sizes.input_size if layer == 0 else self.output_size,
                sizes.hidden_size,
                batch_first=True,
                bidirectional=sizes.bidirectional,
            )
            for layer in range(sizes.num_layers)
        )
        columns = torch.zeros(self.num_gates, sizes.hidden_size, PADDING_INPUTS)
        columns[self.padding_gate, :, 0] = self.padding_input
        self.padding_weight: Tensor
        self.register_buffer("padding_weight", columns.flatten(0, 1), persistent=False)
        for recurrent in self.layers:
            assert isinstance(recurrent, nn.RNNBase)
            self.initialise(recurrent)

    def kernel(self, inputs: Tensor, state: Tensor, *arguments: Any) -> Tensor:
        """Runs torch's kernel of one layer.

        Args:
            inputs: (seq, batch, input_size)
            state: (directions, batch, hidden_size), the initial state.
            arguments: weights and options, which are the same for the kernels of all encoders.

        Returns:
            (seq, batch, directions * hidden_size)
        """
        raise NotImplementedError

    def initialise(self, layer: nn.RNNBase) -> None:
        """Draws Glorot weights for the inputs and orthogonal weights for the recurrence, and sets biases to 0."""
        for name, parameter in layer.named_parameters():
            if "weight_ih" in name:
                nn.init.xavier_uniform_(parameter)
            elif "weight_hh" in name:
                for gate in torch.split(parameter.data, layer.hidden_size):
                    nn.init.orthogonal_(gate)
            else:
                nn.init.zeros_(parameter)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """(batch, seq, input_size), (batch, seq) bool -> states (batch, seq, output_size), undefined on padding."""
        states = embeddings
        mirror = None
        if self.bidirectional and not takes_both_directions(states.device):
            mirror = Mirror(mask)
        if states.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # Cast once for both directions. Given bf16 inputs, torch also notices that oneDNN does not support bf16 on
            # this processor and uses another implementation.
            states = states.to(torch.get_autocast_dtype("cpu"))
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.RNNBase)
            if number:
                states = self.dropout(states)
            # For each direction: input weights, recurrent weights and two biases.
            weights = [getattr(layer, name) for name in layer._flat_weights_names]
            if states.device.type == "cpu":
                # Cast here, once: a kernel that works step by step would cast its weights at every step.
                weights = [weight.to(states.dtype) for weight in weights]
            if not self.bidirectional:  # padding comes after the text and cannot influence it
                states = self._run(layer, weights, states.transpose(0, 1)).transpose(0, 1)
            elif mirror is not None:
                forward = self._run(layer, weights[:4], states.transpose(0, 1)).transpose(0, 1)
                backward = mirror.back(self._run(layer, weights[4:], mirror.reverse(states)))
                states = torch.cat([forward, backward], dim=-1)
            else:
                for place in (0, 4):
                    weights[place] = torch.cat([weights[place], self.padding_weight], dim=1)
                padding = (~mask).unsqueeze(-1).expand(-1, -1, PADDING_INPUTS).to(states.dtype)
                states = self._run(layer, weights, torch.cat([states, padding], dim=-1).transpose(0, 1)).transpose(0, 1)
        # The kernels return states with time first, but the following parts read text by text.
        return states.contiguous()

    def _run(self, layer: nn.RNNBase, weights: list[Tensor], inputs: Tensor) -> Tensor:
        """(seq, batch, input) -> (seq, batch, directions * hidden), in the directions that `weights` contains."""
        directions = len(weights) // 4
        state = inputs.new_zeros(directions, inputs.shape[1], layer.hidden_size)
        with contextlib.ExitStack() as stack:
            if inputs.is_cuda:
                # cuDNN copies the weights into one block at each call and says so. They cannot be kept in one block:
                # some of them are concatenated.
                stack.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")
            return self.kernel(inputs, state, weights, True, 1, 0.0, layer.training, directions == 2, False)

    def to_onnx(self, graph: OnnxGraph, embeddings: str) -> str:
        """Adds the nodes that compute the same as in torch.

        The recurrent operators of ONNX take the length of each text and start the backward direction at the last real
        token, so padding needs no special treatment.

        Args:
            graph: contains the lengths of the texts.
            embeddings: (seq, batch, input_size), time first.

        Returns:
            (batch, seq, output_size)

        Raises:
            NotImplementedError: the encoder has no ONNX form.
        """
        if self.onnx_operator is None:
            raise NotImplementedError(f"the encoder {type(self).__module__.rpartition('.')[2]!r} has no ONNX form")
        lengths = graph.cast(graph.squeeze(graph.length, 1), np.int32)
        states = embeddings
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.RNNBase)
            states = self._layer_to_onnx(graph, layer, f"encoder.layers.{number}", states, lengths)
            is_last = number == len(self.layers) - 1
            # (seq, directions, batch, size) -> (seq, batch, dim); for the last layer (batch, seq, dim)
            states = graph.op("Transpose", states, perm=[2, 0, 1, 3] if is_last else [0, 2, 1, 3])
            states = graph.op("Reshape", states, graph.constant([0, 0, -1]))
        return states

    def _layer_to_onnx(self, graph: OnnxGraph, layer: nn.RNNBase, name: str, inputs: str, lengths: str) -> str:
        """(seq, batch, input_size) -> (seq, directions, batch, hidden_size)."""
        suffixes = ("", "_reverse") if self.bidirectional else ("",)

        def stacked(kind: str) -> Array:
            """(directions, gates * size, …), gates in ONNX's order."""
            rows = []
            for suffix in suffixes:
                gates = np.split(graph.array(getattr(layer, f"{kind}_l0{suffix}")), self.num_gates)
                rows.append(np.concatenate([gates[i] for i in self.onnx_gates]))
            return np.stack(rows)

        w, r = stacked("weight_ih"), stacked("weight_hh")
        bias = graph.constant(np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1), f"{name}.bias")
        attributes: dict[str, Any] = {
            "hidden_size": layer.hidden_size,
            "direction": "bidirectional" if self.bidirectional else "forward",
            **self.onnx_attributes,
        }
        if graph.int8 and self.onnx_int8_operator is not None:
            w_int8, *w_scale = graph.quantised(w, f"{name}.weight_ih")
            r_int8, *r_scale = graph.quantised(r, f"{name}.weight_hh")
            return graph.op(
                self.onnx_int8_operator, inputs, w_int8, r_int8, bias, lengths, "", "", "", *w_scale, *r_scale,
                domain="com.microsoft", **attributes,
            )  # fmt: skip
        matrices = graph.constant(w, f"{name}.weight_ih"), graph.constant(r, f"{name}.weight_hh")
        assert self.onnx_operator is not None
        return graph.op(self.onnx_operator, inputs, *matrices, bias, lengths, **attributes)

    @classmethod
    def telling_shapes(cls, sizes: EncoderSizes) -> dict[str, tuple[int, ...]]:
        """Shapes of parameters that reveal all sizes except the number of layers, see `Attention.telling_shapes`."""
        return {"layers.0.weight_ih_l0": (cls.num_gates * sizes.hidden_size, sizes.input_size)}


def takes_both_directions(device: torch.device) -> bool:
    """Whether the kernels of the device run the two directions of a layer at once."""
    return device.type != "cpu"


class Mirror:
    """Reverses each text of a batch while its padding stays at the end."""

    def __init__(self, mask: Tensor) -> None:
        """mask: (batch, seq) bool."""
        batch, seq = mask.shape
        time = torch.arange(seq, device=mask.device).unsqueeze(1)  # (seq, 1)
        facing = mask.sum(dim=1) - 1 - time  # (seq, batch): the position of the mirror image
        facing = torch.where(facing >= 0, facing, time)
        rows = torch.arange(batch, device=mask.device)
        self.by_text = (rows * seq + facing).flatten()
        self.by_time = (facing * batch + rows).t().flatten()

    def reverse(self, states: Tensor) -> Tensor:
        """(batch, seq, dim) -> reversed (seq, batch, dim)."""
        turned: Tensor = _Rows.apply(states.flatten(0, 1), self.by_text, self.by_time)  # type: ignore[no-untyped-call]
        return turned.view(states.shape[1], states.shape[0], -1)

    def back(self, turned: Tensor) -> Tensor:
        """The inverse of `reverse`: (seq, batch, dim) -> (batch, seq, dim)."""
        states: Tensor = _Rows.apply(turned.flatten(0, 1), self.by_time, self.by_text)  # type: ignore[no-untyped-call]
        return states.view(turned.shape[1], turned.shape[0], -1)


class _Rows(torch.autograd.Function):
    """Permutes rows. Gradients are permuted by the inverse order, where torch would add them row by row."""

    @staticmethod
    def forward(rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        return rows.index_select(0, order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return gradient.index_select(0, inverse), None, None
