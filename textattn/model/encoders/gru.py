"""Gated recurrent units."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from textattn.model.encoders._recurrent import SHUT, RecurrentEncoder


class GRUEncoder(RecurrentEncoder):
    """h_t = (1 - z) * n + z * h_{t-1}, n = tanh(W x + b + r * (U h_{t-1} + c)) (Cho et al. 2014, in the form of cuDNN).

    On padding, the update gate z is set to 1, so that h stays 0. ONNX Runtime has no int8 form of the GRU, so its
    weights stay in fp32 in int8 graphs.
    """

    layer_class = nn.GRU
    num_gates = 3  # torch stacks r, z, n
    padding_gate = 1
    padding_input = SHUT
    onnx_operator = "GRU"
    onnx_gates = (1, 0, 2)  # z, r, h
    onnx_attributes: ClassVar = {"linear_before_reset": 1}

    def kernel(self, inputs: Tensor, state: Tensor, *arguments: Any) -> Tensor:
        states: Tensor = torch.gru(inputs, state, *arguments)[0]
        return states
