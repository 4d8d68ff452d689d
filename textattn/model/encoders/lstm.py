"""Long short-term memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from textattn.model.encoders._recurrent import SHUT, RecurrentEncoder


class LSTMEncoder(RecurrentEncoder):
    """c_t = f * c_{t-1} + i * g, h_t = o * tanh(c_t) (Hochreiter & Schmidhuber 1997; forget gate f of Gers 2000).

    On padding, the input gate i is closed, so that c and h stay 0.
    """

    layer_class = nn.LSTM
    num_gates = 4  # torch stacks i, f, g, o
    padding_gate = 0
    padding_input = -SHUT
    onnx_operator = "LSTM"
    onnx_gates = (0, 3, 1, 2)  # i, o, f, c
    onnx_int8_operator = "DynamicQuantizeLSTM"

    def kernel(self, inputs: Tensor, state: Tensor, *arguments: Any) -> Tensor:
        states: Tensor = torch.lstm(inputs, (state, state), *arguments)[0]
        return states

    def initialise(self, layer: nn.RNNBase) -> None:
        """Initialises the weights as for every encoder, and opens the forget gates (Jozefowicz et al. 2015)."""
        super().initialise(layer)
        for name, parameter in layer.named_parameters():
            if "bias_ih" in name:
                parameter.data[layer.hidden_size : 2 * layer.hidden_size] = 1.0
