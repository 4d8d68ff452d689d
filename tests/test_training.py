"""The loss, the optimiser and its schedule, and the loop: what it visits, when it evaluates, when it stops."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from tasks_of_kinds import task
from torch import nn

from textattn.config.schema import TrainingConfig
from textattn.errors import ConfigError, TrainingError
from textattn.model.classifier import Architecture, TextClassifier
from textattn.report import Evaluation, Step
from textattn.tokens.token_arrays import TokenArrays
from textattn.training.examples import Examples
from textattn.training.loop import Selection, TrainingLoop
from textattn.training.loss import Losses
from textattn.training.optimizer import build_optimizers
from textattn.training.placement import Placement, choose_device, choose_placement
from textattn.training.schedule import Plan, learning_rate_at

CPU = Placement(torch.device("cpu"), torch.float32)
NUM_TEXTS = 10
STEADY: dict[str, Any] = {"schedule": "constant", "warmup_ratio": 0.0, "learning_rate": 1e-3, "batch_size": 2}


def texts(number: int = NUM_TEXTS, seed: int = 0) -> TokenArrays:
    """Random texts of 1 to 9 tokens; the first token of text i is 2 + i, and no other text has it."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 10, number)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = generator.integers(2 + number, 100, starts[-1]).astype(np.int32)
    ids[starts[:-1]] = 2 + np.arange(number)
    return TokenArrays(ids, starts, 0, 0)


def build(attention: str = "additive", encoder: str = "lstm", seed: int = 0, **dropout: float) -> TextClassifier:
    torch.manual_seed(seed)
    return TextClassifier(
        Architecture(100, 2, embedding_dim=16, encoder=encoder, hidden_size=16, attention=attention, dropout=dropout)
    )


def events_of(
    model: TextClassifier,
    evaluate: Callable[[nn.Module], float] | None = None,
    *,
    tokens: TokenArrays | None = None,
    placement: Placement = CPU,
    seed: int = 0,
    greater_is_better: bool = True,
    **settings: Any,
) -> list[Step | Evaluation]:
    tokens = texts() if tokens is None else tokens
    plan = Plan(TrainingConfig(**{**STEADY, **settings}), seed)
    selection = None if evaluate is None else Selection(evaluate, greater_is_better)
    return list(loop_of(model, Examples(tokens, np.arange(len(tokens)) % 2, 0), plan, placement, selection))


def loop_of(
    model: TextClassifier,
    examples: Examples,
    plan: Plan,
    placement: Placement = CPU,
    selection: Selection | None = None,
    kind: str = "softmax",
) -> TrainingLoop:
    losses = Losses.from_config(plan.config, task(kind, 2), None)
    return TrainingLoop(model, examples, losses, plan, placement, selection)


def steps_of(events: list[Step | Evaluation]) -> list[Step]:
    return [event for event in events if isinstance(event, Step)]


def evaluations_of(events: list[Step | Evaluation]) -> list[Evaluation]:
    return [event for event in events if isinstance(event, Evaluation)]


def scripted(*values: float) -> Callable[[nn.Module], float]:
    """An evaluation that gives these values, one after the other."""
    left = iter(values)
    return lambda _: next(left)


@pytest.mark.parametrize(
    ("attention", "encoder", "dtype"),
    [
        ("additive", "lstm", torch.float32),
        ("additive", "none", torch.float32),
        ("self_attention", "gru", torch.float32),
        ("additive", "lstm", torch.bfloat16),
    ],
)
def test_one_batch_can_be_learnt_by_heart(attention: str, encoder: str, dtype: torch.dtype) -> None:
    model = build(attention, encoder)
    settings = {"epochs": 80, "batch_size": 16, "learning_rate": 0.02}
    steps = steps_of(events_of(model, tokens=texts(16), placement=Placement(CPU.device, dtype), **settings))
    assert steps[0].loss == pytest.approx(math.log(2), abs=0.1)
    assert steps[-1].loss < 0.01


def test_same_seed_gives_the_same_bytes() -> None:
    def weights(torch_seed: int, order_seed: int) -> bytes:
        model = build(seed=torch_seed, words=0.1, embedding=0.3, recurrent=0.2, classifier=0.2)
        events_of(model, seed=order_seed, epochs=2, learning_rate=1e-2)
        return save(model.state_dict())

    assert weights(1, 1) == weights(1, 1)
    assert weights(1, 1) != weights(1, 2)  # the order of the texts
    assert weights(1, 1) != weights(2, 1)  # first weights and dropout


def test_every_text_is_visited_once_an_epoch_in_a_new_order() -> None:
    model, seen = build(), []
    model.register_forward_pre_hook(lambda _, arguments: seen.extend((arguments[0][:, 0] - 2).tolist()))
    events_of(model, epochs=3, batch_size=3)
    epochs = [seen[i : i + NUM_TEXTS] for i in range(0, len(seen), NUM_TEXTS)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(NUM_TEXTS))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_labels_stay_with_their_texts() -> None:
    """Learnt by heart in shuffled batches, every single text gets its own label."""
    model, tokens = build(encoder="none"), texts()
    events_of(model, epochs=40, batch_size=3, learning_rate=0.02)
    for i in range(NUM_TEXTS):
        ids = torch.from_numpy(tokens.ids[tokens.starts[i] : tokens.starts[i + 1]]).long()[None]
        assert model.eval()(ids, torch.ones_like(ids)).logits.argmax().item() == i % 2


def test_steps_count_tokens_and_epochs_and_follow_the_schedule() -> None:
    tokens = texts()
    settings = {"epochs": 2, "batch_size": 4, "schedule": "linear", "warmup_ratio": 0.34, "learning_rate": 0.01}
    steps = steps_of(events_of(build(), tokens=tokens, **settings))
    assert [step.global_step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert {step.total_steps for step in steps} == {6}
    assert [step.epoch for step in steps] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert [steps[i].num_tokens for i in (2, 5)] == [len(tokens.ids), 2 * len(tokens.ids)]
    # Two of six steps of warm-up, then a line that would reach 0 at step 7.
    factors = [1 / 3, 2 / 3, 1, 3 / 4, 2 / 4, 1 / 4]
    assert [step.learning_rate for step in steps] == pytest.approx([0.01 * factor for factor in factors])
    assert all(one.seconds <= other.seconds for one, other in itertools.pairwise(steps))


@pytest.mark.parametrize(
    ("evaluations_per_epoch", "expected"),
    [(1, [5, 10]), (2, [2, 5, 7, 10]), (5, list(range(1, 11))), (100, list(range(1, 11)))],
)
def test_evaluations_are_spread_over_the_epoch_and_close_it(evaluations_per_epoch: int, expected: list[int]) -> None:
    events = events_of(build(), lambda _: 0.5, epochs=2, evaluations_per_epoch=evaluations_per_epoch)
    evaluations = evaluations_of(events)
    assert [evaluation.global_step for evaluation in evaluations] == expected
    assert [evaluation.epoch for evaluation in evaluations] == pytest.approx([step / 5 for step in expected])
    before = 0
    for evaluation in evaluations:
        losses = [step.loss for step in steps_of(events)[before : evaluation.global_step]]
        assert evaluation.train_loss == pytest.approx(sum(losses) / len(losses))
        before = evaluation.global_step


@pytest.mark.parametrize("max_steps", [1, 4, 5, 7, 10, 99])
def test_training_ends_after_the_steps_asked_for_with_an_evaluation(max_steps: int) -> None:
    events = events_of(build(), lambda _: 0.5, epochs=2, max_steps=max_steps)  # 5 steps an epoch
    steps = [event.global_step for event in events if isinstance(event, Step)]
    last = min(max_steps, 10)
    assert steps == list(range(1, last + 1))
    assert all(event.total_steps == last for event in events if isinstance(event, Step))
    evaluated = [event.global_step for event in events if isinstance(event, Evaluation)]
    assert evaluated == sorted({step for step in (5, 10) if step <= last} | {last})


def test_any_number_of_epochs_is_planned_at_once() -> None:
    """Time that grows with the square of the epochs would be hours."""
    events = events_of(build(), epochs=1_000_000, max_steps=3)
    assert [step.global_step for step in steps_of(events)] == [1, 2, 3]


def test_batches_within_a_budget_of_tokens_make_more_steps() -> None:
    plain, small = (
        [e for e in events_of(build(), epochs=2, max_tokens_per_batch=most) if isinstance(e, Step)]
        for most in (None, 9)
    )
    assert len(plain) == plain[-1].total_steps == 10
    assert len(small) == small[-1].total_steps > 10
    assert small[-1].num_tokens == plain[-1].num_tokens
    assert small[-1].epoch == 2


def test_model_is_evaluated_without_and_trained_with_dropout() -> None:
    model, modes = build(), []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    events_of(model, lambda module: modes.append(("evaluate", module.training)) or 0.0, epochs=2, batch_size=5)  # type: ignore[func-returns-value]
    assert modes == [True, True, ("evaluate", False)] * 2


@pytest.mark.parametrize(
    ("greater_is_better", "values", "expected"),
    [
        (True, [0.5, 0.5, 0.6, 0.6, 0.4], [True, False, True, False, False]),
        (False, [0.5, 0.5, 0.4, 0.4, 0.6], [True, False, True, False, False]),
        (True, [-1.0, 0.0], [True, True]),
        (True, [math.nan, math.nan, 0.5, math.nan, 0.4], [True, True, True, False, False]),
    ],
)
def test_best_is_the_earliest_of_equals(greater_is_better: bool, values: list[float], expected: list[bool]) -> None:
    settings = {"epochs": len(values), "batch_size": 10, "greater_is_better": greater_is_better}
    evaluations = evaluations_of(events_of(build(), scripted(*values), **settings))
    assert [evaluation.metric for evaluation in evaluations] == pytest.approx(values, nan_ok=True)
    assert [evaluation.is_best for evaluation in evaluations] == expected


def test_patience_stops_after_evaluations_without_improvement() -> None:
    values = [0.5, 0.4, 0.6, 0.6, 0.5, 0.9]  # never sees the 0.9
    events = events_of(build(), scripted(*values), epochs=6, batch_size=10, patience=2)
    assert [evaluation.metric for evaluation in evaluations_of(events)] == values[:5]
    assert isinstance(events[-1], Evaluation)
    assert steps_of(events)[-1].global_step == 5


def test_without_evaluation_every_epoch_counts_as_the_best() -> None:
    evaluations = evaluations_of(events_of(build(), None, epochs=4, batch_size=10, patience=1))
    assert [evaluation.is_best for evaluation in evaluations] == [True] * 4
    assert all(math.isnan(evaluation.metric) for evaluation in evaluations)


def test_a_loss_that_is_no_number_stops_and_names_the_step() -> None:
    model, seen = build(), []

    def poison(_: nn.Module) -> float:
        with torch.no_grad():
            model.classifier.bias.fill_(math.nan)
        return seen.append(1) or 0.0  # type: ignore[func-returns-value]

    with pytest.raises(TrainingError) as caught:
        events_of(model, poison, epochs=3, learning_rate=2e-3)
    assert caught.value.message == "the loss is nan at step 6 (learning rate 0.002)"  # 5 steps an epoch
    assert caught.value.hint == ("training.learning_rate=0.0002 training.max_grad_norm=1.0 training.precision=fp32")
    assert len(seen) == 1


def test_a_learning_rate_out_of_all_bounds_ends_in_an_error() -> None:
    with pytest.raises(TrainingError, match=r"^the loss is (nan|inf) at step 2 \(learning rate 1e\+30\)$"):
        events_of(build("mlp", "none"), learning_rate=1e30, max_grad_norm=None, epochs=3)


@pytest.mark.parametrize(("limit", "clipped"), [(0.01, True), (None, False), (1e6, False)])
def test_long_gradients_are_scaled_down(limit: float | None, clipped: bool) -> None:
    model, norms = build(), []
    plan = Plan(TrainingConfig(**STEADY, max_grad_norm=limit, epochs=1), seed=0)
    for _ in loop_of(model, Examples(texts(), np.arange(NUM_TEXTS) % 2, 0), plan):
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norms.append(math.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients)))
    assert (max(norms) <= 0.01 * (1 + 1e-5)) == clipped
    assert min(norms) > 0.0099


def test_frozen_embeddings_stay() -> None:
    model = build()
    model.embedding.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    events_of(model, epochs=1)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(before) - {"embedding.weight"}


def test_multi_label_targets_are_trained_on() -> None:
    model, tokens = build(encoder="none"), texts()
    labels: NDArray[np.uint8] = np.stack([np.arange(NUM_TEXTS) % 2, np.arange(NUM_TEXTS) % 3 == 0], axis=1).astype(
        np.uint8
    )
    plan = Plan(TrainingConfig(**{**STEADY, "epochs": 60, "learning_rate": 0.02}), seed=0)
    events = list(loop_of(model, Examples(tokens, labels, 0), plan, kind="multi_label"))
    assert steps_of(events)[-1].loss < 0.05


# Optimiser, schedule, device.


def test_only_matrices_decay() -> None:
    model = build("dot", "gru")
    (adamw,) = build_optimizers(model, TrainingConfig(weight_decay=0.3))
    decayed, plain = adamw.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert {names[id(p)] for p in decayed["params"]} == {
        "classifier.weight",
        *(f"encoder.layers.0.weight_{kind}_l0{way}" for kind in ("ih", "hh") for way in ("", "_reverse")),
    }
    assert {names[id(p)] for p in plain["params"]} == set(names.values()) - {names[id(p)] for p in decayed["params"]}
    assert "embedding.weight" in {names[id(p)] for p in plain["params"]}


@pytest.mark.parametrize("warmup_ratio", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("schedule", ["one_cycle", "linear", "constant"])
@pytest.mark.parametrize("total", [1, 7, 100])
def test_schedule_rises_to_the_learning_rate_and_falls(schedule: str, warmup_ratio: float, total: int) -> None:
    config = TrainingConfig(schedule=schedule, warmup_ratio=warmup_ratio, learning_rate=0.5)  # type: ignore[arg-type]
    rates = [learning_rate_at(step, total, config) for step in range(total)]
    warmup = round(warmup_ratio * total)
    assert np.diff(rates[: warmup + 1]) == pytest.approx([0.5 / (warmup + 1)] * min(warmup, total - 1))
    assert max(rates) == rates[min(warmup, total - 1)] == pytest.approx(0.5)
    assert min(rates) > 0  # no step is wasted
    fall = np.array(rates[warmup:]) / 0.5
    done = np.arange(len(fall)) / len(fall)
    expected = {"constant": np.ones(len(fall)), "linear": 1 - done, "one_cycle": (1 + np.cos(np.pi * done)) / 2}
    np.testing.assert_allclose(fall, expected[schedule], atol=1e-12)


def test_placement_is_what_the_config_asks_for() -> None:
    placement = choose_placement(TrainingConfig(device="cpu", precision="bf16"))
    assert (placement.device.type, placement.dtype, str(placement)) == ("cpu", torch.bfloat16, "cpu, bf16")
    assert str(choose_placement(TrainingConfig(device="cpu", precision="fp32"))) == "cpu, fp32"
    assert choose_placement(TrainingConfig(device="cpu")).dtype in (torch.float32, torch.bfloat16)


def test_fp16_on_a_processor_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_placement(TrainingConfig(device="cpu", precision="fp16"))
    assert caught.value.message == "training.precision: fp16 needs CUDA, but the device is cpu"
    assert caught.value.hint == "training.precision=auto"


@pytest.mark.parametrize("name", ["cuda", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ConfigError) as caught:
        choose_device(name)
    assert caught.value.message == f"device {name!r} is not available here"
    assert caught.value.hint == "training.device=auto"


def test_optimisers_do_not_import_the_compiler() -> None:
    """It takes two seconds, before the first step."""
    code = """
import sys
import torch
from textattn.config.schema import TrainingConfig
from textattn.model.classifier import Architecture, TextClassifier
from textattn.training.optimizer import build_optimizers
model = TextClassifier(Architecture(vocab_size=9, num_outputs=2, ngrams=2, ngram_buckets=50))
ids = torch.ones(2, 3, dtype=torch.int64)
for optimizer in build_optimizers(model, TrainingConfig()):
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
    model(ids, ids).logits.sum().backward()
    optimizer.step()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
