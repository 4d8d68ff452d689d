"""The optimisers: AdamW for the network, Adagrad for the weights of n-grams."""

from __future__ import annotations

import inspect
import sys

import torch
from torch import nn

from textattn.config.schema import TrainingConfig


def build_optimizers(model: nn.Module, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov & Hutter 2019); matrices decay, embeddings, biases and single vectors do not.

    Weights of n-grams have Adagrad (Duchi et al. 2011) of their own, which touches those that occur only.
    """
    _leave_compiler_out()
    sparse: list[nn.Parameter] = []
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name.startswith("ngrams."):
            sparse.append(parameter)
        elif parameter.requires_grad:
            (decaying if parameter.ndim > 1 and "embedding" not in name else others).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)]
    if sparse:
        # Torch asks for a decision: what autograd makes is well formed.
        torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
        optimizers.append(Adagrad(sparse, lr=config.ngram_learning_rate))
    return optimizers


class AdamW(torch.optim.AdamW):
    """As torch's, whose step would import torch's compiler first, two seconds, only to tell it to keep out."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class Adagrad(torch.optim.Adagrad):
    """See AdamW."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adagrad.step))


def _leave_compiler_out() -> None:
    """The same for the other methods of all optimisers, unless the compiler is there already."""
    if "torch._dynamo" in sys.modules:
        return
    for method in vars(torch.optim.Optimizer).values():
        # Where torch/_compile.py keeps what the compiler made of the method: here the method itself.
        if getattr(method, "__module__", None) == torch.optim.Optimizer.__module__ and hasattr(method, "__wrapped__"):
            vars(method.__wrapped__).setdefault("__dynamo_disable", method.__wrapped__)
