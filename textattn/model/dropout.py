"""Dropout that does not wait for random numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from textattn.model.noise import generator


class Dropout(nn.Dropout):
    """As torch's own; on a processor with a probability rounded to a close multiple of 2**-8, or else of 2**-16.

    There torch draws number after number in one thread: on the states of a batch that takes as long as a tenth of the
    LSTM. Here torch's generator draws the seed of a quick one (SFC64), of which eight elements share a number.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape, floating point; what is kept is scaled so that the expectation stays."""
        if not self.training or self.p in (0, 1) or input.device.type != "cpu":
            return functional.dropout(input, self.p, self.training)
        near = round(self.p * 2**8)
        kind = np.dtype(np.uint8 if near > 0 and abs(self.p * 2**8 - near) <= 0.25 else np.uint16)
        values = 2 ** (8 * kind.itemsize)
        dropped = min(round(self.p * values), values - 1)
        seed = int(torch.randint(2**63 - 1, (), generator=generator()))
        numbers = np.random.SFC64(seed).random_raw(-(-input.numel() * kind.itemsize // 8))
        kept = torch.from_numpy((numbers.view(kind)[: input.numel()] >= dropped).view(np.uint8)).view(input.shape)
        return input * kept.to(input.dtype).mul_(values / (values - dropped))
