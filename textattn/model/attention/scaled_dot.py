"""Scaled dot-product attention with one query."""

from __future__ import annotations

from torch import nn

from textattn.model.attention._base import AttentionSizes
from textattn.model.attention.dot import DotAttention


class ScaledDotAttention(DotAttention):
    """score_i = q . h_i / sqrt(dim) with a learned query q (Vaswani et al. 2017, eq. 1, one query)."""

    def __init__(self, sizes: AttentionSizes) -> None:
        super().__init__(sizes)
        self.scale = sizes.dim**-0.5
        # Initially the scores have the same variance as in the unscaled form, so that the query learns as fast.
        nn.init.normal_(self.query)
