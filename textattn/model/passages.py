"""Where in a text attention lies: on words, or on passages as people mark them; anywhere alike, or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Places between which the learned preference is linear, from the first token to the last.
NUM_PLACES = 8
# Of the preference for one of the parameter: steps of 0.002 reach a factor of e within a hundred.
PLACE_SCALE = 5.0
LARGEST_WINDOW = 999


class Passages(nn.Module):
    """What becomes of attention weights before they pool.

    With `position` the weight of token i of n is multiplied by exp(b((i + 0.5) / n)), b piecewise linear and learned,
    and all are scaled to sum 1 again: the same as adding b to the scores of a softmax (the location term of Luong et
    al. 2015, with the place in the text instead of the words there). Then each weight is shared out equally among the
    tokens of the window around it: what is weighed are passages, and a token counts as much as the passages it is in.
    """

    def __init__(self, window: int = 1, position: bool = False) -> None:
        super().__init__()
        if not 1 <= window <= LARGEST_WINDOW or window % 2 == 0:
            raise ValueError(f"attention_window must be an odd number from 1 to {LARGEST_WINDOW}, got {window}")
        self.window = window
        self.place = nn.Parameter(torch.zeros(NUM_PLACES)) if position else None

    def forward(self, weights: Tensor, mask: Tensor) -> Tensor:
        """weights (batch, heads, seq), 0 on padding, sum 1; mask (batch, seq) bool -> the same."""
        real = mask.unsqueeze(1).to(weights.dtype)  # (batch, 1, seq)
        if self.place is not None:
            weights = weights * self._preference(self.place, real)
            weights = weights / weights.sum(dim=-1, keepdim=True)
        if self.window == 1:
            return weights
        return self._sums(weights / self._sums(real).clamp(min=1)) * real

    @staticmethod
    def _preference(place: Tensor, real: Tensor) -> Tensor:
        """(batch, 1, seq) exp(b), at most 1."""
        at = (real.cumsum(dim=-1) - 0.5) / real.sum(dim=-1, keepdim=True) * (NUM_PLACES - 1)
        before = at.floor().clamp(0, NUM_PLACES - 2).long()
        after = at - before
        b = PLACE_SCALE * (place - place.max())
        return torch.exp(b[before] * (1 - after) + b[before + 1] * after)

    def _sums(self, x: Tensor) -> Tensor:
        """Of (batch, channels, seq) the sum over the window around each token."""
        return functional.avg_pool1d(x, self.window, stride=1, padding=self.window // 2) * self.window
