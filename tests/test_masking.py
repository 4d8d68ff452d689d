"""Masked tokens in training: how many, where, when."""

from __future__ import annotations

import pytest
import small_models
import torch
from small_models import UNK, VOCABULARY
from torch import Tensor

from textattn.model.classifier import TextClassifier


def replaced(model: TextClassifier, input_ids: Tensor) -> Tensor:
    """(batch, seq) which tokens became the unknown one; nothing else may have happened to a token."""
    plain, found = model.embedding(input_ids), model.embed(input_ids)
    unknown = (found == model.embedding.weight[UNK]).all(dim=-1)
    assert torch.equal(found[~unknown], plain[~unknown])
    return unknown


def long_texts(rows: int = 400, seq: int = 2000) -> Tensor:
    return torch.randint(2, VOCABULARY, (rows, seq), generator=torch.Generator().manual_seed(5))


def with_dropout(**dropout: float) -> TextClassifier:
    return small_models.build(encoder="none", embedding_dim=4, dropout=dropout).train()


@pytest.mark.parametrize("masking", [0.3, 0.6, 1.0])
def test_another_share_of_each_text_is_masked_between_nothing_and_the_setting(masking: float) -> None:
    masked = replaced(with_dropout(masking=masking), long_texts()).float()
    shares = masked.mean(dim=1).sort().values / masking  # even between 0 and 1
    assert shares[-1] * masking <= min(1.0, masking + 0.06)  # five standard deviations of 2000 draws
    even = (torch.arange(400) + 0.5) / 400
    assert (shares - even).abs().max() < 0.135  # Kolmogorov and Smirnov: once in a million
    # Any place of a text, independently of the one before it.
    assert masked.mean(dim=0).sub(masking / 2).abs().max() < 0.15
    one = masked[masked.mean(dim=1).sub(masking / 2).abs().argmin()]
    share = one.mean().item()
    assert (one[1:] * one[:-1]).mean().item() == pytest.approx(share**2, abs=0.06)


def test_masking_is_off_in_eval_mode_and_repeats_itself_with_the_seed() -> None:
    model, input_ids = with_dropout(masking=0.5), long_texts(20, 50)

    def masked(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return replaced(model, input_ids)

    assert torch.equal(masked(1), masked(1))
    assert not torch.equal(masked(1), masked(2))
    assert masked(1).any()
    assert not replaced(model.eval(), input_ids).any()


def test_without_masking_no_random_numbers_are_used_up() -> None:
    input_ids = long_texts(20, 50)
    for dropout, used in (({}, False), ({"masking": 0.0, "words": 0.0}, False), ({"masking": 0.1}, True)):
        model = with_dropout(**dropout)
        before = torch.get_rng_state()
        model.embed(input_ids)
        assert torch.equal(before, torch.get_rng_state()) != used


def test_masking_comes_on_top_of_word_dropout() -> None:
    masked = replaced(with_dropout(masking=0.5, words=0.3), long_texts()).float()
    shares = masked.mean(dim=1).sort().values
    even = 1 - 0.7 * (1 - 0.5 * (torch.arange(400) + 0.5) / 400)  # kept by one, then by the other
    assert (shares - even).abs().max() < 0.135 * 0.35 + 0.03
    assert shares[0] > 0.25
    assert shares[-1] < 0.65 + 0.06
