"""The recurrent encoder: bidirectional, several layers, exact under padding, without packing.

`pack_padded_sequence` is exact but slow on a processor (each time step is a slice of its own), and a plain padded
bidirectional network is fast but wrong: its backward direction reads the padding first. Here the padding is made
invisible instead. Every layer gets one more input that is 1 on padding and whose fixed weight drives one gate of both
directions shut: the input gate of an LSTM (c = f*c + i*g, so c and h stay 0), the update gate of a GRU towards
keeping (h = (1-z)*n + z*h stays 0). So the backward direction reaches the last real token with the zero state it would
have started from, in one fused kernel over the rectangle.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from textattn.model.dropout import Dropout

# sigmoid(-1e4) is exactly 0 and sigmoid(1e4) exactly 1 in fp32, bf16 and fp16 (largest value 65504).
SHUT = 1e4
# One would do, but with an odd number of inputs oneDNN is slower (in fp32 by a twentieth).
PADDING_INPUTS = 4


class RecurrentEncoder(nn.Module):
    """LSTM or GRU over padded embeddings; equal to running each text alone."""

    def __init__(
        self, kind: str, input_size: int, hidden_size: int, num_layers: int, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
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
        padding = (~mask).unsqueeze(-1).expand(-1, -1, PADDING_INPUTS)
        states = embeddings
        for number, layer in enumerate(self.layers):
            if number:
                states = self.dropout(states)
            states = self._run(layer, torch.cat([states, padding.to(states.dtype)], dim=-1))
        return states

    def _run(self, layer: nn.Module, inputs: Tensor) -> Tensor:
        assert isinstance(layer, nn.RNNBase)
        weights: list[Tensor] = []
        for name in layer._flat_weights_names:
            weight = getattr(layer, name)
            weights.append(torch.cat([weight, self.padding_weight], dim=1) if "weight_ih" in name else weight)
        directions = 2 if layer.bidirectional else 1
        state = inputs.new_zeros(directions, inputs.shape[0], layer.hidden_size)
        arguments = (weights, True, 1, 0.0, self.training, layer.bidirectional, True)
        if layer.mode == "LSTM":
            outputs, _, _ = torch.lstm(inputs, (state, state), *arguments)
        else:
            outputs, _ = torch.gru(inputs, state, *arguments)
        # The kernels work time first; what comes after reads text by text.
        return outputs.contiguous()


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
