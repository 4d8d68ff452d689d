"""`model.pretraining`: the encoder learns the language of texts first; and how fine-tuning goes on from there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inprocess import run as cli
from safetensors.torch import load_file
from scipy.special import logsumexp

import textattn
from textattn import pretraining
from textattn.config.schema import TrainingConfig
from textattn.data import cache
from textattn.data.token_arrays import TokenArrays
from textattn.model.classifier import Architecture, TextClassifier
from textattn.training.language_model import LanguageModel, pretrain
from textattn.training.optimizer import Placement

CPU = Placement(torch.device("cpu"), torch.float32)
# Two languages: whoever has read much knows which words are of the same one.
WORDS = {label: [f"{label}{i}" for i in range(80)] for label in ("north", "south")}


def small(vocab_size: int = 12, **more: Any) -> TextClassifier:
    torch.manual_seed(0)
    return TextClassifier(Architecture(vocab_size, 2, embedding_dim=6, hidden_size=5, **more))


def tokens_of(rows: list[list[int]]) -> TokenArrays:
    starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return TokenArrays(np.concatenate(rows).astype(np.int32), starts, 0, 0)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_loss_is_that_of_the_definition(bidirectional: bool) -> None:
    """Jean et al. 2015, eq. 8, token by token in float64."""
    model = LanguageModel(small(bidirectional=bidirectional)).double()
    torch.nn.init.normal_(model.bias)
    texts, drawn = [[2, 3, 4, 5, 3], [6, 7, 2], [9]], [3, 8, 8, 11, 5]
    q = np.random.default_rng(0).dirichlet(np.ones(12))
    losses = []
    for text in texts:
        ids = torch.tensor([text])
        states = model.encoder(model.embedding(ids), torch.ones_like(ids, dtype=torch.bool))[0]
        for number, projection in enumerate(model.projections):
            guesses = projection(states[:, number * 5 : number * 5 + 5]).detach().numpy()
            places = range(len(text) - 1) if number == 0 else range(1, len(text))
            for place in places:
                right = text[place + 1] if number == 0 else text[place - 1]
                weights = model.embedding.weight.detach().numpy() @ guesses[place] + model.bias.detach().numpy()
                corrected = weights - np.log(q)
                others = [corrected[i] for i in drawn if i != right]
                losses.append(logsumexp([corrected[right], *others]) - corrected[right])
    # Together, padded; and a text of one token has nothing to guess.
    ids, mask = torch.zeros(3, 7, dtype=torch.int64), torch.zeros(3, 7, dtype=torch.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = torch.tensor(text), 1
    found = model(ids, mask, torch.tensor(drawn), torch.from_numpy(np.log(q)))
    assert abs(found.item() - np.mean(losses)) < 1e-9
    assert model(ids[2:], mask[2:], torch.tensor(drawn), torch.from_numpy(np.log(q))).item() == 0


def test_both_directions_learn_what_follows_and_what_went_before() -> None:
    rows = [[2 + (first + i) % 10 for i in range(8)] for first in range(10)] * 4
    settings = TrainingConfig(epochs=60, batch_size=16, learning_rate=5e-2)
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps = list(pretrain(model, tokens_of(rows), settings, CPU, negatives=20, pad_id=0, seed=1))
    assert [step.global_step for step in steps] == list(range(1, steps[-1].total_steps + 1))
    assert steps[0].loss > 2 and steps[-1].loss < 0.1
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"embedding", "encoder"}
    again = small()
    for _ in pretrain(again, tokens_of(rows), settings, CPU, negatives=20, pad_id=0, seed=1):
        pass
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_rate_that_is_too_high_is_said_with_the_setting() -> None:
    rows = [[2, 3, 4, 5]] * 8
    settings = TrainingConfig(epochs=50, learning_rate=1e30, max_grad_norm=None)
    with pytest.raises(textattn.errors.TrainingError) as caught:
        list(pretrain(small(), tokens_of(rows), settings, CPU, negatives=5, pad_id=0, seed=1))
    assert "model.pretraining.learning_rate=" in str(caught.value.hint)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six texts with labels, which have few of the words, and many without."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    generator = np.random.default_rng(0)

    def write(name: str, number: int, labelled: bool) -> None:
        rows = []
        for i in range(number):
            label = ("north", "south")[i % 2]
            text = " ".join(generator.choice(WORDS[label], 6))
            rows.append({"text": text} | ({"label": label} if labelled else {}))
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("train.jsonl", 6, True)
    write("test.jsonl", 300, True)
    write("more.jsonl", 1000, False)
    return tmp_path


def train(folder: Path, name: str, *overrides: str, **sections: Any) -> Path:
    config = {
        "recipe": "plain",
        "data": {
            "files": {split: str(folder / f"{split}.jsonl") for split in ("train", "test")},
            "unlabelled": {"path": str(folder / "more.jsonl")},
            "validation_fraction": 0.0,
        },
        "tokenizer": {"min_frequency": 1},
        "model": {"embedding_dim": 24, "hidden_size": 24},
        "training": {"epochs": 30, "batch_size": 16, "learning_rate": 5e-3},
        "output": {"plots": False, "audit_examples": 0, "attention_examples": 0, "dir": str(folder / name)},
    }
    return textattn.train(config | sections, overrides)


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


PRETRAINED = ("model.pretraining.epochs=6", "model.pretraining.learning_rate=1e-2", "model.pretraining.negatives=100")


def test_what_texts_without_labels_teach_shows_and_is_learnt_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[int] = []
    learn = pretraining._learn
    monkeypatch.setattr(pretraining, "_learn", lambda *a: (learnt.append(1), learn(*a))[1])
    alone, first = train(folder, "alone"), train(folder, "first", *PRETRAINED)
    accuracy = [json.loads((run / "metrics.json").read_text())["test"]["accuracy"] for run in (alone, first)]
    assert accuracy[0] < 0.9 < 0.97 < accuracy[1]
    facts = json.loads((first / "environment.json").read_text())["word_vectors"]["pretraining"]
    assert facts["epochs"] == 6 and 0 < facts["loss"] < 4.5
    assert weights(train(folder, "again", *PRETRAINED)) == weights(first) and len(learnt) == 1
    other = train(folder, "other", *PRETRAINED, "training.epochs=1", "model.attention=dot")
    assert json.loads((other / "environment.json").read_text())["word_vectors"]["pretraining"] == facts
    assert len(learnt) == 1
    train(folder, "seed", *PRETRAINED, "seed=7", "training.epochs=1")
    assert len(learnt) == 2
    more = (folder / "more.jsonl").read_text()
    (folder / "more.jsonl").write_text(more.replace("north1 ", "north2 "))
    train(folder, "changed", *PRETRAINED, "training.epochs=1")
    assert len(learnt) == 3
    (folder / "more.jsonl").write_text(more)
    for file in (folder / "cache" / pretraining.ENCODERS).glob("*/model.safetensors"):
        file.write_bytes(b"damaged")
    assert weights(train(folder, "damaged", *PRETRAINED)) == weights(first) and len(learnt) == 4


def test_frozen_layers_stay_as_they_were(folder: Path) -> None:
    """With so slow a thaw nothing below the attention learns; slower layers learn less than the others."""
    first = train(folder, "first", *PRETRAINED, "training.epochs=1", "training.learning_rate=1e-12")
    frozen = train(folder, "frozen", *PRETRAINED, "training.epochs=2", "training.unfreezing=2.0")
    half = train(folder, "half", *PRETRAINED, "training.epochs=2", "training.unfreezing=1.0")
    slow = train(folder, "slow", *PRETRAINED, "training.epochs=2", "training.layer_decay=0.1")
    fast = train(folder, "fast", *PRETRAINED, "training.epochs=2")
    parts = [load_file(run / "model.safetensors") for run in (first, frozen, half, slow, fast)]

    def moved(number: int, part: str) -> float:
        return max(
            float((value - parts[0][name]).abs().max())
            for name, value in parts[number].items()
            if name.startswith(part)
        )

    assert moved(1, "embedding") < 1e-9 and moved(1, "encoder") < 1e-9 and moved(1, "attention") > 1e-3
    assert moved(2, "embedding") < 1e-9 and moved(2, "encoder") > 1e-3
    assert 0 < moved(3, "embedding") < moved(4, "embedding") / 5 and moved(3, "encoder") < moved(4, "encoder") / 2


def test_a_run_goes_on_from_another_one_with_its_vocabulary(folder: Path) -> None:
    first = train(folder, "first", *PRETRAINED, "training.epochs=1")
    taken = {
        "tokenizer": {"type": "pretrained", "path": str(first)},
        "data": {"path": str(folder / "train.jsonl"), "validation_fraction": 0.0},
    }
    path = f"model.pretraining.path={first}"
    second = train(folder, "second", path, "training.epochs=1", "training.learning_rate=1e-12", **taken)
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    for name in a:
        if name.startswith(("embedding", "encoder")):
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-9)
    for overrides, sections, part in (
        ([path, "tokenizer.vocab_size=20"], {}, "its vocabulary is another"),
        ([path, "model.hidden_size=8"], taken, "its embedding and encoder have other sizes"),
        ([f"model.pretraining.path={folder}"], taken, "no finished run"),
    ):
        with pytest.raises(textattn.errors.InputError, match=part):
            train(folder, "third", *overrides, **sections)
        assert not (folder / "third").exists()


def test_what_cannot_be_pretrained_is_refused(folder: Path) -> None:
    for override, part in (
        ("model.encoder=none", "model.encoder=none has nothing to pretrain"),
        ("model.num_layers=2", "in both directions only one layer"),
        ("model.pretraining.path=x", "give either model.pretraining.epochs or model.pretraining.path"),
    ):
        with pytest.raises(textattn.errors.ConfigError, match=part):
            train(folder, "run", *PRETRAINED, override)


def test_check_forecasts_it(folder: Path) -> None:
    run = train(folder, "run", "training.epochs=1")
    done = cli("check", run / "training_config.yaml", *PRETRAINED, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["forecast"]["seconds_by_stage"]["pretraining"] > 0
