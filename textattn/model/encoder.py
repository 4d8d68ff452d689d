"""The recurrent encoder: bidirectional, several layers, exact under padding, without packing.

`pack_padded_sequence` is exact but slow (on a processor each time step is a slice of its own), and a plain padded
bidirectional network is fast but wrong: its backward direction reads the padding first. Here it never does, and still
each direction is one fused kernel over the rectangle.

On a processor, where the kernels take one direction at a time, the backward direction is a forward one over texts
turned around, their padding still behind them. Where one kernel takes both directions (CUDA), turning would cost as
much as it does; there the padding is made invisible. Every layer gets one more input that is 1 on padding and whose
fixed weight drives one gate of both directions shut: the input gate of an LSTM (c = f*c + i*g, so c and h stay 0), the
update gate of a GRU towards keeping (h = (1-z)*n + z*h stays 0). So the backward direction reaches the last real token
with the zero state it would have started from.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from textattn.model.dropout import Dropout

# sigmoid(-1e4) is exactly 0 and sigmoid(1e4) exactly 1 in fp32, bf16 and fp16 (largest value 65504).
SHUT = 1e4
# One would do, but kernels like even numbers.
PADDING_INPUTS = 4


class RecurrentEncoder(nn.Module):
    """LSTM or GRU over padded embeddings; equal to running each text alone."""

    def __init__(
        self, kind: str, input_size: int, hidden_size: int, num_layers: int, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        directions = 2 if bidirectional else 1
        self.output_size = hidden_size * directions
        self.dropout = Dropout(dropout)
        build = nn.LSTM if kind == "lstm" else nn.GRU
        self.layers = nn.ModuleList(
            build(
                input_size if layer == 0 else self.output_size,
                hidden_size,
                batch_first=True,
                bidirectional=bidirectional,
            )
            for layer in range(num_layers)
        )
        num_gates = 4 if kind == "lstm" else 3
        columns = torch.zeros(num_gates * hidden_size, PADDING_INPUTS)
        if kind == "lstm":
            columns[:hidden_size, 0] = -SHUT  # gates are i, f, g, o
        else:
            columns[hidden_size : 2 * hidden_size, 0] = SHUT  # gates are r, z, n
        self.padding_weight: Tensor
        self.register_buffer("padding_weight", columns, persistent=False)
        for recurrent in self.layers:
            _initialise(recurrent, hidden_size, kind)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """(batch, seq, input_size), (batch, seq) bool -> states (batch, seq, output_size), garbage on padding."""
        states = embeddings
        mirror = None
        if self.bidirectional and not takes_both_directions(states.device):
            mirror = Mirror(mask)
        if states.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # Once for both directions; and where oneDNN has no bf16, torch notices in time and takes another way.
            states = states.to(torch.get_autocast_dtype("cpu"))
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.RNNBase)
            if number:
                states = self.dropout(states)
            # Of each direction: input weights, recurrent weights, two biases.
            weights = [getattr(layer, name) for name in layer._flat_weights_names]
            if not self.bidirectional:  # padding comes after the text and says nothing to it
                states = _run(layer, weights, states.transpose(0, 1)).transpose(0, 1)
            elif mirror is not None:
                forward = _run(layer, weights[:4], states.transpose(0, 1)).transpose(0, 1)
                backward = mirror.back(_run(layer, weights[4:], mirror.there(states)))
                states = torch.cat([forward, backward], dim=-1)
            else:
                for place in (0, 4):
                    weights[place] = torch.cat([weights[place], self.padding_weight], dim=1)
                padding = (~mask).unsqueeze(-1).expand(-1, -1, PADDING_INPUTS).to(states.dtype)
                states = _run(layer, weights, torch.cat([states, padding], dim=-1).transpose(0, 1)).transpose(0, 1)
        # The kernels work time first; what comes after reads text by text.
        return states.contiguous()


def takes_both_directions(device: torch.device) -> bool:
    """Whether its kernels run the two directions of a layer at once."""
    return device.type != "cpu"


def _run(layer: nn.RNNBase, weights: list[Tensor], inputs: Tensor) -> Tensor:
    """(seq, batch, input) -> (seq, batch, directions * hidden), in as many directions as there are weights for."""
    directions = len(weights) // 4
    state = inputs.new_zeros(directions, inputs.shape[1], layer.hidden_size)
    arguments = (weights, True, 1, 0.0, layer.training, directions == 2, False)
    if layer.mode == "LSTM":
        return torch.lstm(inputs, (state, state), *arguments)[0]
    return torch.gru(inputs, state, *arguments)[0]


class Mirror:
    """Turns each text of a batch around, its padding staying behind."""

    def __init__(self, mask: Tensor) -> None:
        """mask: (batch, seq) bool."""
        batch, seq = mask.shape
        time = torch.arange(seq, device=mask.device).unsqueeze(1)  # (seq, 1)
        facing = mask.sum(dim=1) - 1 - time  # (seq, batch): the place of the token that faces it
        facing = torch.where(facing >= 0, facing, time)
        rows = torch.arange(batch, device=mask.device)
        self.by_text = (rows * seq + facing).flatten()
        self.by_time = (facing * batch + rows).t().flatten()

    def there(self, states: Tensor) -> Tensor:
        """(batch, seq, dim) -> turned around (seq, batch, dim)."""
        turned: Tensor = _Rows.apply(states.flatten(0, 1), self.by_text, self.by_time)  # type: ignore[no-untyped-call]
        return turned.view(states.shape[1], states.shape[0], -1)

    def back(self, turned: Tensor) -> Tensor:
        """The inverse."""
        states: Tensor = _Rows.apply(turned.flatten(0, 1), self.by_time, self.by_text)  # type: ignore[no-untyped-call]
        return states.view(turned.shape[1], turned.shape[0], -1)


class _Rows(torch.autograd.Function):
    """Rows in another order; gradients go back by the inverse of it, where torch would add them up one by one."""

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


def _initialise(layer: nn.Module, hidden_size: int, kind: str) -> None:
    """Glorot inputs, orthogonal recurrences, biases 0, forget gates open (Jozefowicz et al. 2015)."""
    for name, parameter in layer.named_parameters():
        if "weight_ih" in name:
            nn.init.xavier_uniform_(parameter)
        elif "weight_hh" in name:
            for gate in torch.split(parameter.data, hidden_size):
                nn.init.orthogonal_(gate)
        else:
            nn.init.zeros_(parameter)
            if kind == "lstm" and "bias_ih" in name:
                parameter.data[hidden_size : 2 * hidden_size] = 1.0
