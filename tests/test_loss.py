"""The losses against closed forms, and the class weights against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from tasks_of_kinds import class_weights, label_loss

from textattn.errors import ConfigError

GENERATOR = np.random.default_rng(0)
ROWS = 12
LOGITS = GENERATOR.normal(0, 2, (ROWS, 3)).astype(np.float32)
CLASSES = np.array([0, 2, 1, 1, 0, 2, 2, 2, 0, 1, 1, 2])
BINARY = CLASSES % 2
SEVERAL = GENERATOR.integers(0, 2, (ROWS, 3)).astype(np.uint8)
WEIGHTS = np.array([0.5, 1.0, 3.0])
every_setting = pytest.mark.parametrize(
    ("smoothing", "weighted"), [(0.0, False), (0.0, True), (0.2, False), (0.2, True)]
)


def loss_of(
    kind: str,
    logits: NDArray[np.float32],
    labels: NDArray[np.integer],
    smoothing: float = 0.0,
    weights: NDArray[np.float64] | None = None,
) -> float:
    loss = label_loss(kind, smoothing, None if weights is None else torch.tensor(weights, dtype=torch.float32))
    return loss(torch.tensor(logits), torch.tensor(labels)).value().item()


def log_sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return -np.log1p(np.exp(-x))


@every_setting
def test_softmax_is_cross_entropy(smoothing: float, weighted: bool) -> None:
    """(1 - e) * mean of w_y * -log p_y + e * mean over the labels of w_c * -log p_c."""
    weights = WEIGHTS if weighted else np.ones(3)
    exponentials = np.exp(LOGITS.astype(np.float64))
    nll = -np.log(exponentials / exponentials.sum(axis=1, keepdims=True))
    total = ROWS
    hard = (weights[CLASSES] * nll[np.arange(ROWS), CLASSES]).sum() / total
    soft = (nll * weights).sum() / total / 3
    expected = (1 - smoothing) * hard + smoothing * soft
    assert loss_of("softmax", LOGITS, CLASSES, smoothing, weights if weighted else None) == pytest.approx(
        expected, rel=1e-5
    )


@every_setting
def test_binary_is_the_weighted_mean_of_two_sided_log_losses(smoothing: float, weighted: bool) -> None:
    weights = WEIGHTS[:2] if weighted else np.ones(2)
    z = LOGITS[:, 0].astype(np.float64)
    target = np.where(BINARY == 1, 1 - smoothing / 2, smoothing / 2)
    each = -(target * log_sigmoid(z) + (1 - target) * log_sigmoid(-z))
    expected = np.mean(each * weights[BINARY])
    assert loss_of("binary", LOGITS[:, :1], BINARY, smoothing, weights if weighted else None) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize(("smoothing", "weights"), [(0.0, None), (0.2, None), (0.0, WEIGHTS[:2])])
def test_binary_with_one_logit_equals_softmax_with_two(smoothing: float, weights: NDArray[np.float64] | None) -> None:
    pairs = np.concatenate([np.zeros((ROWS, 1), np.float32), LOGITS[:, :1]], axis=1)
    one = loss_of("binary", LOGITS[:, :1], BINARY, smoothing, weights)
    assert one == pytest.approx(loss_of("softmax", pairs, BINARY, smoothing, weights), rel=1e-5)


@every_setting
def test_multi_label_is_the_mean_over_rows_and_labels(smoothing: float, weighted: bool) -> None:
    weights = WEIGHTS if weighted else np.ones(3)
    z = LOGITS.astype(np.float64)
    target = np.where(SEVERAL == 1, 1 - smoothing / 2, smoothing / 2)
    expected = -(weights * target * log_sigmoid(z) + (1 - target) * log_sigmoid(-z)).mean()
    assert loss_of("multi_label", LOGITS, SEVERAL, smoothing, weights if weighted else None) == pytest.approx(
        expected, rel=1e-5
    )


@every_setting
def test_multi_label_loss_does_not_depend_on_the_layout_of_the_batch(smoothing: float, weighted: bool) -> None:
    weights = WEIGHTS if weighted else None
    expected = pytest.approx(loss_of("multi_label", LOGITS, SEVERAL, smoothing, weights), rel=1e-5)
    rows, columns = GENERATOR.permutation(ROWS), [2, 0, 1]
    assert loss_of("multi_label", LOGITS[rows], SEVERAL[rows], smoothing, weights) == expected
    reordered = None if weights is None else weights[columns]
    assert loss_of("multi_label", LOGITS[:, columns], SEVERAL[:, columns], smoothing, reordered) == expected
    twice = np.tile(LOGITS, (2, 1)), np.tile(SEVERAL, (2, 1))
    assert loss_of("multi_label", *twice, smoothing, weights) == expected
    parts = [loss_of("multi_label", LOGITS[i : i + 3], SEVERAL[i : i + 3], smoothing, weights) for i in range(0, 12, 3)]
    assert np.mean(parts) == expected
    transposed = label_loss("multi_label", smoothing, None if weights is None else torch.tensor(weights).float())(
        torch.tensor(LOGITS.T.copy()).T, torch.tensor(SEVERAL.astype(np.int64).T.copy()).T
    )
    assert transposed.value().item() == expected


@pytest.mark.parametrize(
    ("kind", "logits", "labels"),
    [("softmax", LOGITS, CLASSES), ("binary", LOGITS[:, :1], BINARY), ("multi_label", LOGITS, SEVERAL)],
)
def test_loss_of_bf16_logits_is_computed_in_fp32(
    kind: str, logits: NDArray[np.float32], labels: NDArray[np.integer]
) -> None:
    rounded = torch.tensor(logits).bfloat16()
    loss = label_loss(kind, 0.1, None)(rounded, torch.tensor(labels)).value()
    assert loss.dtype == torch.float32
    assert loss.item() == loss_of(kind, rounded.float().numpy(), labels, 0.1)


def test_binary_accepts_a_batch_of_one() -> None:
    assert loss_of("binary", np.zeros((1, 1), np.float32), np.array([1])) == pytest.approx(np.log(2))


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    weights = class_weights("balanced", CLASSES, ["a", "b", "c"])
    assert weights is not None
    expected = compute_class_weight("balanced", classes=np.arange(3), y=CLASSES)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)


def test_balanced_weights_give_every_label_the_same_share() -> None:
    labels = np.array([0] * 90 + [1] * 9 + [2])
    weights = class_weights("balanced", labels, ["a", "b", "c"])
    assert weights is not None
    shares = [float(weights[labels[labels == label]].sum()) for label in range(3)]
    assert shares == pytest.approx([100 / 3] * 3)


def test_balanced_weights_for_multi_label_are_negatives_over_positives() -> None:
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 0]] * 100, dtype=np.uint8)  # 300 positives do not fit a uint8
    weights = class_weights("balanced", labels, ["a", "b"])
    assert weights is not None
    assert weights.tolist() == pytest.approx([1 / 3, 3])


def test_a_label_without_rows_weighs_1_and_the_others_as_without_it() -> None:
    """Otherwise label smoothing, which gives every label a share, would be all about the absent one."""
    weights = class_weights("balanced", np.array([0, 0, 2]), ["a", "b", "c"])
    assert weights is not None
    assert weights.tolist() == pytest.approx([3 / 4, 1, 3 / 2])


def test_a_label_of_no_row_or_every_row_weighs_1() -> None:
    """At 0, the weight by the formula, a label that every row has would never be learnt."""
    labels = np.array([[0, 1, 1], [0, 1, 0], [0, 1, 0]], dtype=np.uint8)
    weights = class_weights("balanced", labels, ["never", "always", "once"])
    assert weights is not None
    assert weights.tolist() == [1, 1, 2]


def test_given_weights_go_by_name_and_none_means_none() -> None:
    weights = class_weights({"b": 2.0, "a": 0.5}, np.array([0, 1]), ["a", "b"])
    assert weights is not None
    assert weights.tolist() == pytest.approx([0.4, 1.6])  # as 0.5 to 2, with a mean of 1 over the rows
    several = class_weights({"b": 2.0, "a": 0.5}, np.array([[0, 1], [1, 1]], np.uint8), ["a", "b"])
    assert several is not None
    assert several.tolist() == [0.5, 2.0]
    assert class_weights(None, np.array([0, 1]), ["a", "b"]) is None


@pytest.mark.parametrize(
    ("given", "wrong"), [({"a": 1.0}, "b"), ({"a": 1.0, "b": 1.0, "x": 1.0}, "x"), ({"x": 1.0, "b": 2.0}, "a, x")]
)
def test_weights_for_other_labels_are_refused(given: dict[str, float], wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        class_weights(given, np.array([0, 1]), ["a", "b"])
    assert caught.value.message == (
        f"training.class_weights: give one weight for each of the labels a, b; missing or unknown: {wrong}"
    )
    assert caught.value.hint == "training.class_weights=balanced"


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("kind", "logits", "labels"),
    [("softmax", LOGITS, CLASSES), ("binary", LOGITS[:, :1], BINARY), ("multi_label", LOGITS, SEVERAL)],
)
def test_the_parts_of_a_batch_add_up(
    kind: str, logits: NDArray[np.float32], labels: NDArray[np.integer], weighted: bool
) -> None:
    weights = torch.tensor(WEIGHTS[: 2 if kind == "binary" else 3]).float() if weighted else None
    loss = label_loss(kind, 0.1, weights)
    whole = loss(torch.tensor(logits), torch.tensor(labels)).value().item()
    parts = [loss(torch.tensor(logits[rows]), torch.tensor(labels[rows])) for rows in (slice(5), slice(5, None))]
    total = sum(part.total.item() for part in parts) / sum(part.count.item() for part in parts)
    assert total == pytest.approx(whole, rel=1e-6)
