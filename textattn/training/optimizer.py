"""The optimisers: AdamW for the network, Adagrad for the weights of n-grams."""

from __future__ import annotations

import inspect
import sys

import torch
from torch import nn

from textattn.config.schema import TrainingConfig


def build_optimizers(model: nn.Module, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Create AdamW (Loshchilov & Hutter 2019) and, if the model has n-grams, Adagrad (Duchi et al. 2011) for them.

    Weight decay applies to matrices, but not to embeddings, biases and other vectors. Adagrad updates only the n-grams
    that occur in a batch.
    """
    _leave_compiler_out()
    sparse: list[nn.Parameter] = []
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("ngrams."):
            sparse.append(parameter)
        else:
            (decaying if parameter.ndim > 1 and "embedding" not in name else others).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)]
    if sparse:
        # Torch warns unless this is set explicitly. The check is not needed: autograd makes well-formed sparse tensors.
        torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
        optimizers.append(Adagrad(sparse, lr=config.ngram_learning_rate))
    return optimizers


class AdamW(torch.optim.AdamW):
    """Torch's AdamW without the wrapper of `step`, which imports torch's compiler (two seconds) only to disable it."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class Adagrad(torch.optim.Adagrad):
    """Torch's Adagrad with the same change."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adagrad.step))


def _leave_compiler_out() -> None:
    """Avoid the same import in the other methods of all optimisers, unless the compiler is loaded already."""
    if "torch._dynamo" in sys.modules:
        return
    for method in vars(torch.optim.Optimizer).values():
        # torch/_compile.py caches the compiler's version of a method in this attribute; we store the method itself.
        if getattr(method, "__module__", None) == torch.optim.Optimizer.__module__ and hasattr(method, "__wrapped__"):
            vars(method.__wrapped__).setdefault("__dynamo_disable", method.__wrapped__)
