"""A batch in slices, each computed by one thread: the gradients of the batch, the same bytes for any number of them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import build
from stopped_runs import KINDS, Killed, Killer, merged, settings, start, write_texts
from tasks_of_kinds import task
from torch import nn

from textattn.config.schema import TrainingConfig
from textattn.model.noise import drawn_from
from textattn.tokens.token_arrays import TokenArrays
from textattn.training import processors
from textattn.training.examples import Examples
from textattn.training.loop import TrainingLoop
from textattn.training.loss import Losses
from textattn.training.placement import Placement
from textattn.training.schedule import Plan
from textattn.training.slices import ROWS, add_gradients, cut

CPU = Placement(torch.device("cpu"), torch.float32)


@given(st.integers(1, 300), st.integers(1, 5))
def test_every_row_is_in_one_slice_and_processes_get_as_many(rows: int, processes: int) -> None:
    slices = cut(np.arange(rows), processes)
    assert sorted(np.concatenate(slices)) == list(range(rows))
    assert all(1 <= len(one) <= ROWS for one in slices)
    assert len(slices) % processes == 0 or len(slices) == rows
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


def examples(rows: int) -> Examples:
    generator = np.random.default_rng(1)
    lengths = generator.integers(1, 12, rows)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = generator.integers(2, 50, starts[-1]).astype(np.int32)
    return Examples(TokenArrays(ids, starts, 0, 0), np.arange(rows) % 3, 0, generator.random(starts[-1]) < 0.3)


@pytest.mark.parametrize("rows", [5, 16, 40])
@pytest.mark.parametrize("attention", ["additive", "multi_head"])
def test_the_step_is_that_of_the_whole_batch(attention: str, rows: int) -> None:
    """Without dropout: one step of plain torch, its gradients and AdamW, in float64's place."""
    config = TrainingConfig(
        epochs=1, batch_size=rows, learning_rate=0.01, warmup_ratio=0.0, schedule="constant", weight_decay=0.1,
        attention_alignment=0.3, attention_supervision=0.2, state_tying=0.05, max_grad_norm=0.5,
    )  # fmt: skip
    sizes: dict[str, Any] = {"hidden_size": 8, "embedding_dim": 8, "ngrams": 2, "ngram_buckets": 64}
    model, other = (build(attention, **sizes).train() for _ in range(2))
    data = examples(rows)
    losses = Losses.from_config(config, task("softmax"), None)
    for _ in TrainingLoop(model, data, losses, Plan(config, seed=0), CPU):
        pass
    batch = data.batch(np.arange(rows), CPU.device)
    output = other(batch.input_ids, batch.attention_mask)
    parts = losses(other, output, batch.attention_mask, batch.labels, batch.evidence)
    torch.stack([part.value() for part in parts]).sum().backward()
    dense = {name: parameter for name, parameter in other.named_parameters() if not name.startswith("ngrams")}
    torch.nn.utils.clip_grad_norm_(dense.values(), 0.5)
    groups = [
        {"params": [p for name, p in dense.items() if p.ndim > 1 and "embedding" not in name], "weight_decay": 0.1},
        {"params": [p for name, p in dense.items() if p.ndim == 1 or "embedding" in name], "weight_decay": 0.0},
    ]
    torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99)).step()
    torch.optim.Adagrad([other.ngrams.weights.weight], lr=config.ngram_learning_rate).step()  # type: ignore[union-attr]
    for (name, mine), expected in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=2e-5, msg=name)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("slices") / "texts.jsonl")


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "kind", [*(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "bf16"), "bf16"]
)
def test_the_bytes_do_not_depend_on_the_number_of_threads(kind: str, data: Path, tmp_path: Path) -> None:
    found = set()
    for number in (1, 2, 5):
        more = {"training": {"threads": number, "batch_size": 40}, "model": {"dropout": {"recurrent": 0.3}}}
        found.add(weights(start(merged(settings(data, tmp_path / str(number), kind), more))))
    assert len(found) == 1


def test_a_run_resumes_with_another_number_of_threads(data: Path, tmp_path: Path) -> None:
    def config(run: str, threads: int) -> dict[str, Any]:
        return merged(settings(data, tmp_path / run), {"training": {"threads": threads}})

    expected = weights(start(config("whole", 1)))
    with pytest.raises(Killed):
        start(config("run", 2), Killer(step=9))
    assert weights(start(config("run", 1), resume=True)) == expected


def test_each_thread_draws_from_its_own_generator() -> None:
    model = build(dropout={"words": 0.3, "embedding": 0.3, "recurrent": 0.3, "classifier": 0.3}).train()
    ids = torch.randint(2, 50, (4, 6))
    before = torch.get_rng_state()
    found = []
    for seed in (1, 2, 1):
        with drawn_from(seed):
            found.append(model(ids, torch.ones_like(ids)).logits)
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_processors_are_those_that_a_container_may_use(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(processors, "CGROUP", tmp_path)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert processors.available_processors() == expected


@pytest.mark.parametrize(("value", "expected"), [("3", 3), ("4,2", 4), ("", 8), ("many", 8), ("0", 8)])
def test_omp_num_threads_is_obeyed(value: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(processors, "CGROUP", tmp_path)
    assert processors.available_processors() == expected


def test_the_process_that_trains_keeps_its_settings(tmp_path: Path) -> None:
    """`textattn.train` in a program of someone else: threads and environment are as they were."""
    script = (
        "import os, threading, torch, textattn\n"
        "def number():\n"
        "    found = []\n"
        "    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))\n"
        "    thread.start(), thread.join()\n"
        "    return torch.get_num_threads(), *found\n"
        "torch.set_num_threads(3)\n"
        "number()\n"
        "before, variables, after = number(), dict(os.environ), []\n"
        # An audit would take gradients, after which the threads are set again.
        "small = ['output.dir=run', 'training.epochs=1', 'output.audit_examples=0']\n"
        "run = textattn.train('four_sentences', small)\n"
        "after.append(number())\n"
        "model = textattn.load(run, runtime='torch')\n"
        "model.predict(['a', 'b'])\n"
        "after.append(number())\n"
        "model.explain('a b', method='gradient_x_input')\n"
        "after.append(number())\n"
        "changed = {k: v for k, v in os.environ.items() if variables.get(k) != v}\n"
        "print(before, *after, changed)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "(3, 3) (3, 3) (3, 3) (3, 3) {}\n", done.stderr


def test_added_gradients_lie_in_memory_as_their_parameters_do() -> None:
    """Else the fused AdamW of CUDA refuses them: those of the LSTM there are columns of a wider matrix."""
    weight, table, untouched = (nn.Parameter(torch.randn(4, 3)) for _ in range(3))

    def gradients() -> list[torch.Tensor | None]:
        (wider,) = torch.autograd.grad(torch.cat([weight, torch.ones(4, 2)], dim=1).square().sum(), [weight])
        assert wider.stride() != weight.stride()
        return [wider, torch.eye(4, 3).to_sparse(), None]

    one, two = gradients(), gradients()
    for slices in ([one], [one, two]):
        add_gradients([weight, table, untouched], slices)
        assert weight.grad is not None and weight.grad.stride() == weight.stride()
        torch.testing.assert_close(weight.grad, 2 * len(slices) * weight.detach())
        assert table.grad is not None and table.grad.is_sparse
        torch.testing.assert_close(table.grad.to_dense(), len(slices) * torch.eye(4, 3))
        assert untouched.grad is None
