"""Compares the training loop with a lower bound of its cost and with a tutorial-style loop. For scripts/bench.py."""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from textattn.config import load_config
from textattn.report import Report, Step
from textattn.runs.prepare import prepare
from textattn.runs.setup import build
from textattn.tokens.batches import shuffled_batches
from textattn.tokens.token_arrays import TokenArrays
from textattn.training.placement import Placement, choose_placement

# In each round, every contestant takes STEPS steps on the same batches. The order alternates, so that other load on the
# machine affects all alike. The tutorial-style loop is so slow that it takes one step, and only in some rounds.
ROUNDS, STEPS, ROUNDS_A_TURN_OF_THE_USUAL, WARM_UP = 16, 20, 2, 1


class Contestant:
    """A training loop that is compared. `train` takes a few steps and returns (real tokens, seconds)."""

    def __init__(self, name: str, precision: str, train: Callable[[], tuple[int, float]], every: int = 1) -> None:
        self.name, self.precision, self.train, self.every = name, precision, train, every
        self.speeds: list[float] = []


# Of the competing processes: each computes without an end, with less claim to the processor than a program in use.
COMPETITOR = "import os; os.nice(10)\nwhile True: sum(range(1000))"
BUSY_ROUNDS, BUSY_STEPS = 6, 10


def train_busy(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens per second of our loop alone, and beside competing processes, in turns."""
    overrides = [f"data.path={arguments.data}", "model.vectors.source=random", *arguments.overrides]
    data = prepare(load_config(arguments.config, overrides), Report())
    placement = choose_placement(data.config.training)
    settings = data.config.training.model_copy(update={"epochs": 100, "evaluations_per_epoch": 1})
    run = rounds_of(iter(build(data, placement, Report()).loop(config=settings)), BUSY_STEPS)
    run()
    speeds: dict[int, list[float]] = {0: [], arguments.busy: []}
    for number in range(2 * BUSY_ROUNDS):
        competitors = arguments.busy * (number % 2)
        others = [subprocess.Popen([sys.executable, "-c", COMPETITOR]) for _ in range(competitors)]
        try:
            done, seconds = run()
        finally:
            for other in others:
                other.kill()
                other.wait()
        speeds[competitors].append(done / seconds)
    idle, busy = (statistics.median(found) for found in speeds.values())
    return [
        {
            "what": f"our loop, {arguments.config}",
            "precision": str(placement).split(", ")[1],
            "competing processes": number,
            "tokens/s": round(rate),
            "of the idle rate": round(rate / idle, 2),
        }
        for number, rate in ((0, idle), (arguments.busy, busy))
    ]


def train(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure tokens per second: our loop, the bare LSTM on the same batches, tutorial style, matrix products."""
    overrides = [f"data.path={arguments.data}", "model.vectors.source=random", "model.ngrams=0", *arguments.overrides]
    config = load_config("imdb", overrides)
    data = prepare(config, Report())
    config, corpus, tokenizer, tokens = data.config, data.corpus, data.tokenizer, data.tokens
    best = choose_placement(config.training)
    placements = [Placement(best.device, torch.float32)]
    if best.dtype != torch.float32:
        placements.insert(0, best)
    contestants = []
    for placement in placements:
        precision = str(placement).split(", ")[1]
        torch.manual_seed(0)
        settings = config.training.model_copy(update={"epochs": 100, "evaluations_per_epoch": 1})
        loop = build(data, placement, Report()).loop(config=settings)
        contestants.append(Contestant("our loop", precision, rounds_of(iter(loop))))
        sizes = (config.model.embedding_dim, config.model.hidden_size)
        floor = bare_lstm(sizes, tokens["train"], config.training.batch_size, placement)
        contestants.append(Contestant("bare LSTM, same batches", precision, floor))
    usual = tutorial(config, tokenizer.vocab_size, tokens["train"], corpus.train.labels, placements[-1].device)
    contestants.append(Contestant("packed, random batches, Adam", "fp32", usual, ROUNDS_A_TURN_OF_THE_USUAL))
    for number in range(-WARM_UP, ROUNDS):
        for contestant in contestants[:: -1 if number % 2 else 1]:
            if number % contestant.every:
                continue
            done, seconds = contestant.train()
            if number >= 0:
                contestant.speeds.append(done / seconds)
    rounds = {(c.name, c.precision): c.speeds for c in contestants}
    speeds = {who: statistics.median(found) for who, found in rounds.items()}
    slowest = speeds["packed, random batches, Adam", "fp32"]
    padding = padding_share(tokens["train"], config.training.batch_size)
    rows = []
    for (name, precision), speed in speeds.items():
        # Pairs of the same round, so that other load on the machine cancels out.
        bare = rounds.get(("bare LSTM, same batches", precision), [])
        shares = [a / b for a, b in zip(rounds[name, precision], bare, strict=False)]
        rows.append(
            {
                "what": f"{name} ({padding:.1%} padding)" if name == "our loop" else name,
                "precision": precision,
                "tokens/s": round(speed),
                "times the usual": round(speed / slowest, 1),
                "of the bare LSTM": round(statistics.median(shares), 2) if "loop" in name else "",
            }
        )
    for placement in placements:
        rate = products_per_second(placement)
        flops = 3 * 2 * 2 * 4 * config.model.hidden_size * (config.model.embedding_dim + config.model.hidden_size)
        rows.append(
            {
                "what": f"roofline: {rate / 1e9:,.0f} GFLOP/s of matrix products, {flops / 1e6:.2f} MFLOP a token",
                "precision": str(placement).split(", ")[1],
                "tokens/s": round(rate / flops),
                "times the usual": round(rate / flops / slowest, 1),
                "of the bare LSTM": "",
            }
        )
    return rows


def rounds_of(loop: Iterator[Any], steps: int = STEPS) -> Callable[[], tuple[int, float]]:
    done = [(0, 0.0)]

    def run() -> tuple[int, float]:
        last = len(done) * steps
        event = next(event for event in loop if isinstance(event, Step) and event.global_step == last)
        before, started = done[-1]
        done.append((event.num_tokens, event.seconds))
        return event.num_tokens - before, event.seconds - started

    return run


def bare_lstm(
    sizes: tuple[int, int], tokens: TokenArrays, batch_size: int, placement: Placement
) -> Callable[[], tuple[int, float]]:
    """Only the forward and backward pass of torch's fused bidirectional LSTM over our batches, including padding."""
    lstm = nn.LSTM(*sizes, batch_first=True, bidirectional=True).to(placement.device)
    generator = np.random.default_rng(0)  # the loop's, too
    batches = (batch for _ in itertools.count() for batch in shuffled_batches(tokens.lengths, batch_size, generator))

    def run() -> tuple[int, float]:
        lengths = [tokens.lengths[next(batches)] for _ in range(STEPS)]
        inputs = [torch.randn(len(each), int(each.max()), sizes[0], device=placement.device) for each in lengths]
        synchronise(placement.device)
        started = time.perf_counter()
        for batch in inputs:
            batch.requires_grad_()
            with placement.autocast:
                outputs, _ = lstm(batch)
            outputs.backward(torch.ones_like(outputs))
            lstm.zero_grad(set_to_none=True)
        synchronise(placement.device)
        return sum(int(each.sum()) for each in lengths), time.perf_counter() - started

    return run


class Tutorial(nn.Module):
    """A model of the same sizes, written as in tutorials."""

    def __init__(self, vocab_size: int, embedding_dim: int, hidden_size: int, attention_size: int, labels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.lstm = nn.LSTM(embedding_dim, hidden_size, batch_first=True, bidirectional=True)
        self.projection = nn.Linear(2 * hidden_size, attention_size)
        self.score = nn.Linear(attention_size, 1, bias=False)
        self.classifier = nn.Linear(2 * hidden_size, labels)

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(input_ids), lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        scores = self.score(torch.tanh(self.projection(states))).squeeze(-1)
        mask = torch.arange(states.shape[1])[None, :] < lengths[:, None]
        weights = torch.softmax(scores.masked_fill(~mask.to(scores.device), -torch.inf), dim=-1)
        logits: Tensor = self.classifier((weights.unsqueeze(-1) * states).sum(dim=1))
        return logits


def tutorial(
    config: Any, vocab_size: int, tokens: TokenArrays, labels: Any, device: torch.device
) -> Callable[[], tuple[int, float]]:
    m = config.model
    torch.manual_seed(0)
    model = Tutorial(vocab_size, m.embedding_dim, m.hidden_size, m.attention_size, int(labels.max()) + 1).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_function = nn.CrossEntropyLoss()
    order = iter(np.random.default_rng(0).permutation(len(tokens)))

    def run() -> tuple[int, float]:
        started = time.perf_counter()
        chosen = [next(order) for _ in range(config.training.batch_size)]
        texts = [torch.from_numpy(tokens.ids[tokens.starts[i] : tokens.starts[i + 1]].astype(np.int64)) for i in chosen]
        lengths = torch.tensor([len(text) for text in texts])
        logits = model(pad_sequence(texts, batch_first=True).to(device), lengths)
        loss = loss_function(logits, torch.from_numpy(labels[chosen]).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        return int(lengths.sum()), time.perf_counter() - started

    return run


def products_per_second(placement: Placement, size: int = 2048) -> float:
    """Floating point operations per second in square matrix products, the best of ten."""
    a, b = (torch.randn(size, size, device=placement.device, dtype=placement.dtype) for _ in range(2))
    best = 0.0
    for _ in range(10):
        synchronise(placement.device)
        started = time.perf_counter()
        a @ b
        synchronise(placement.device)
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def padding_share(tokens: TokenArrays, batch_size: int) -> float:
    """The share of padding in the batches of an epoch."""
    cells = sum(
        len(b) * int(tokens.lengths[b].max())
        for b in shuffled_batches(tokens.lengths, batch_size, np.random.default_rng(0))
    )
    return 1 - len(tokens.ids) / cells


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
