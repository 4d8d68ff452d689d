"""Dropout that does not wait for random numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Dropout(nn.Dropout):
    """As torch's own; on a processor with a probability rounded to a multiple of 2**-16.

    There torch draws number after number in one thread: on the states of a batch that takes as long as a tenth of the
    LSTM. Here torch's generator draws the seed of a quick one (SFC64), of which four elements share a number.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape, floating point; what is kept is scaled so that the expectation stays."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return functional.dropout(input, self.p, self.training)
        dropped = round(self.p * 2**16)  # of the values that 16 bits have
        seed = int(torch.randint(2**63 - 1, ()))
        bits = np.random.SFC64(seed).random_raw(-(-input.numel() // 4)).view(np.uint16)[: input.numel()]
        kept = torch.from_numpy((bits >= dropped).view(np.uint8)).view(input.shape)
        return input * kept.to(input.dtype).mul_(2**16 / max(2**16 - dropped, 1))
