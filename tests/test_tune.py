"""`textattn tune`: what it tries, what it keeps, what it must not look at, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import statistics
import sys
from pathlib import Path

import optuna
import pytest
from inprocess import run as cli
from studies import SMALLER, SPACE, outcome, search, summary, write_data, write_space

import textattn
from textattn.config import load_config
from textattn.data.sources import CORPUS
from textattn.errors import InputError
from textattn.storage.find_model import newest_run

TRIALS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides; the file of the test split is not there."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_space(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def study(data: list[str], space: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished one; tests must not change it."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    done = search(folder, *data, "--trials", str(TRIALS), space=space)
    assert (done.code, done.out) == (0, f"{folder / 'best.yaml'}\n"), done.err
    (folder / "said.txt").write_text(done.err)
    return folder


def test_every_trial_is_a_run_with_values_from_the_space(study: Path) -> None:
    found = summary(study)
    assert (found["metric"], found["split"], found["greater_is_better"]) == ("accuracy", "validation", True)
    assert [trial["trial"] for trial in found["trials"]] == list(range(TRIALS))
    assert len({json.dumps(trial["parameters"]) for trial in found["trials"]}) == TRIALS
    for trial in found["trials"]:
        values = trial["parameters"]
        assert 1e-3 <= values["training.learning_rate"] <= 1e-2
        assert values["model.hidden_size"] in (8, 16, 32)
        assert values["training.batch_size"] in (16, 48, 80)
        assert values["model.dropout.words"] in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
        run = study / "trials" / str(trial["trial"])
        config = load_config(str(run / "training_config.yaml"))
        assert config.training.learning_rate == values["training.learning_rate"]
        assert config.model.hidden_size == values["model.hidden_size"]
        assert config.training.batch_size == values["training.batch_size"]
        assert config.model.dropout.words == values["model.dropout.words"]
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert trial["evaluations"] == [entry["eval_accuracy"] for entry in log]
        assert trial["state"] == "complete"
        assert trial["value"] == max(trial["evaluations"]) == json.loads((run / "metrics.json").read_text())["best"][
            "best_metric"
        ]  # fmt: skip


def test_the_first_trial_is_the_config_itself(study: Path, data: list[str], tmp_path: Path) -> None:
    config = load_config(str(study / "config.yaml"))
    space = write_space(tmp_path, "training.patience: [3, null]\nmodel.hidden_size: {low: 8, high: 128, step: 8}\n")
    search(tmp_path / "own", *data, "--trials", "1", space=space)
    (first,) = summary(tmp_path / "own")["trials"]
    assert first["parameters"] == {"training.patience": None, "model.hidden_size": config.model.hidden_size}


def test_the_best_config_trains_to_the_value_of_its_trial(study: Path, data: list[str], tmp_path: Path) -> None:
    best = summary(study)["best"]
    assert best["value"] == max(trial["value"] for trial in summary(study)["trials"])
    head = (study / "best.yaml").read_text().split("seed:")[0]
    assert f"of {TRIALS} trials: validation accuracy {best['value']:.4f} in trial {best['trial']}." in head
    shutil.copy(CORPUS / "reviews" / "test.jsonl", tmp_path)
    run = textattn.train(
        study / "best.yaml", [f"output.dir={tmp_path / 'run'}", f"data.files.test={tmp_path / 'test.jsonl'}"]
    )
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["best"]["best_metric"] == best["value"]
    assert metrics["test"]["num_examples"] == 216
    # What it is trained with is the config the study began with, but for what was searched.
    base, found = (load_config(str(study / name)).model_dump() for name in ("config.yaml", "best.yaml"))
    for key, value in best["parameters"].items():
        section, *keys = key.split(".")
        place, other = base[section], found[section]
        for name in keys[:-1]:
            place, other = place[name], other[name]
        assert other[keys[-1]] == value
        place[keys[-1]] = value
    assert base == found


def test_no_trial_sees_the_test_split_and_more_trials_go_on(
    study: Path, data: list[str], space: Path, tmp_path: Path
) -> None:
    """Without a file, and with one that is rubbish, a study is the same; in one go as in two, wherever it lies."""
    assert not Path(data[2].partition("=")[2]).exists()
    for run in (study / "trials").iterdir():
        assert "test" not in json.loads((run / "metrics.json").read_text())
        assert "test" not in json.loads((run / "environment.json").read_text())["dataset"]["splits"]
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": "no such label"}\nrubbish\n')
    words = [*data[:2], f"data.files.test={tmp_path / 'test.jsonl'}", *data[3:]]
    folder = tmp_path / "a ?{b} %20# é"
    done = search(folder, *words, "--trials", "1", space=space)
    assert (done.code, len(outcome(folder))) == (0, 1)
    done = search(folder, *words, "--trials", str(TRIALS), "--json", space=space)
    assert json.loads(done.out) == summary(folder)
    assert re.findall(r"^Trial (\d) \((\d) of (\d)\): ", done.err, re.M) == [("1", "2", "3"), ("2", "3", "3")]
    assert outcome(folder) == outcome(study)
    again = search(folder, *words, "--trials", str(TRIALS), "-q", space=space)
    assert (again.code, again.out, again.err) == (0, f"{folder / 'best.yaml'}\n", "")
    assert outcome(folder) == outcome(study)
    # Only a training that measures needs it.
    assert cli("train", folder / "best.yaml", "-q").code == 3


def test_only_the_best_trial_keeps_its_model(study: Path) -> None:
    best = summary(study)["best"]["trial"]
    for run in (study / "trials").iterdir():
        kept = {file.name for file in run.iterdir()} & {"model.safetensors", "model.onnx", "checkpoints"}
        assert kept == ({"model.safetensors", "model.onnx"} if run.name == str(best) else set())
    model = textattn.load(study / "trials" / str(best))
    assert model.labels == ["neg", "pos"]


def test_the_table_lists_the_trials_best_first(study: Path, data: list[str], space: Path) -> None:
    said = (study / "said.txt").read_text()
    assert "Searching\n  training.learning_rate: 0.001 to 0.01, logarithmic\n  model.hidden_size: 8, 16, 32\n" in said
    assert "  training.batch_size: 16 to 80, steps of 32\n" in said
    wide, narrow = (
        cli("tune", "quickstart", "--dir", study, "--space", space, *data, "--trials", str(TRIALS), COLUMNS=columns)
        for columns in ("120", "60")
    )
    trials = sorted(summary(study)["trials"], key=lambda trial: -trial["value"])
    table = wide.err[wide.err.index("\ntrial  accuracy") :].splitlines()[1:]
    assert table[0].split() == [
        "trial", "accuracy", "state", "seconds", "learning_rate", "hidden_size", "batch_size", "dropout.words"
    ]  # fmt: skip
    assert [line.split() for line in table[1 : TRIALS + 1]] == [
        [
            str(trial["trial"]), f"{trial['value']:.4f}", "complete", f"{trial['seconds']:.1f}",
            *(str(value) for value in trial["parameters"].values()),
        ]
        for trial in trials
    ]  # fmt: skip
    assert f"Best: trial {trials[0]['trial']}, validation accuracy {trials[0]['value']:.4f}. " in wide.err
    table = narrow.err[narrow.err.index("\ntrial  accuracy") : narrow.err.index("\nBest")].splitlines()
    assert max(map(len, table)) <= 60
    assert f"       training.learning_rate={trials[0]['parameters']['training.learning_rate']}" in "\n".join(table)


@pytest.mark.slow
def test_pruned_are_those_behind_the_median(data: list[str], tmp_path: Path) -> None:
    space = write_space(tmp_path, "training.learning_rate: {low: 1e-6, high: 1e-2, log: true}\n")
    words = [*data, "training.metric=auroc", "training.batch_size=8", "model.hidden_size=8", "training.patience=9"]
    done = search(tmp_path / "study", *words, "training.max_steps=45", "--trials", "9", space=space)
    assert done.code == 0
    trials = summary(tmp_path / "study")["trials"]
    complete: list[list[float]] = []
    pruned = []
    for trial in trials:
        evaluations = trial["evaluations"]
        # Of three evaluations the first comes too early and the last too late; it is one behind those before it.
        if len(complete) >= 4 and max(evaluations[:2]) < statistics.median(other[1] for other in complete):
            pruned.append(trial["trial"])
            assert (trial["state"], trial["value"], len(evaluations)) == ("pruned", None, 2)
            assert f"Trial {trial['trial']}: pruned after 2 evaluations, " in done.err
            run = tmp_path / "study" / "trials" / str(trial["trial"])
            assert not (run / "checkpoints").exists()
            assert not (run / "model.safetensors").exists()
        else:
            assert (trial["state"], trial["value"], len(evaluations)) == ("complete", max(evaluations), 3)
            complete.append(evaluations)
    assert pruned


@pytest.mark.parametrize(("word", "state", "evaluations"), [("-q", "pruned", 2), ("--no-pruning", "complete", 4)])
def test_pruning_can_be_left_out(
    word: str, state: str, evaluations: int, study: Path, data: list[str], space: Path, tmp_path: Path
) -> None:
    shutil.copytree(study, tmp_path / "study")
    known = optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path / 'study' / 'study.db'}")
    perfect = optuna.trial.create_trial(value=1.0, intermediate_values=dict.fromkeys(range(1, 5), 1.0))
    known.add_trials([perfect] * 4)
    assert search(tmp_path / "study", *data, word, "--trials", str(TRIALS + 5), space=space).code == 0
    last = summary(tmp_path / "study")["trials"][-1]
    assert (last["state"], len(last["evaluations"])) == (state, evaluations)


def test_trials_that_cannot_be_trained_do_not_end_the_study(data: list[str], tmp_path: Path) -> None:
    space = write_space(tmp_path, "training.learning_rate: [0.005, 1e30]\nmodel.attention: [additive, max]\n")
    odd = ["training.max_grad_norm=null", "model.attention_window=3"]
    done = search(tmp_path / "study", *data, *odd, "--trials", "8", space=space)
    assert done.code == 0, done.err
    states = {"1e+30 additive": "diverged", "0.005 max": "failed", "1e+30 max": "failed", "0.005 additive": "complete"}
    seen = {}
    for trial in summary(tmp_path / "study")["trials"]:
        kind = " ".join(map(str, trial["parameters"].values()))
        seen[kind] = trial["state"].replace("pruned", "complete")
        if seen[kind] == "diverged":
            assert trial["why"].startswith("the loss is nan at step ")
        elif seen[kind] == "failed":
            assert "model.attention=max has no weights that depend on positions" in trial["why"]
    assert seen == {kind: states[kind] for kind in seen}
    assert {"diverged", "failed", "complete"} == {*seen.values()}
    space = write_space(tmp_path, "model.attention: [max]\n")
    done = search(tmp_path / "none", *data, "model.attention_window=3", "--trials", "2", space=space)
    assert (done.code, done.out) == (1, "")
    assert (
        f"Error: {tmp_path / 'none'}: none of 2 trials has a result; the reason of the last one: model.attention_window"
        in done.err
    )


def test_the_same_settings_are_not_trained_twice(data: list[str], tmp_path: Path) -> None:
    space = write_space(tmp_path, "model.hidden_size: [8, 16]\n")
    done = search(tmp_path / "study", *data, "--trials", "6", space=space)
    assert done.code == 0
    trials = summary(tmp_path / "study")["trials"]
    assert len(trials) == 6
    first = {}
    for trial in trials:
        size = trial["parameters"]["model.hidden_size"]
        earlier = first.setdefault(size, trial)
        trained = (tmp_path / "study" / "trials" / str(trial["trial"])).exists()
        assert trained == (trial is earlier)
        assert [trial[key] for key in ("state", "value", "evaluations")] == [
            earlier[key] for key in ("state", "value", "evaluations")
        ]
        assert (
            f"Trial {trial['trial']}: these settings were tried before and are not trained again\n" in done.err
        ) != trained
    assert {*first} == {8, 16}
    assert summary(tmp_path / "study")["best"]["trial"] in [trial["trial"] for trial in first.values()]


def test_log_loss_is_made_small(data: list[str], tmp_path: Path) -> None:
    space = write_space(tmp_path, "training.learning_rate: [0.005, 1e-7]\n")
    done = search(tmp_path / "s", *data, "training.metric=log_loss", "--trials", "3", space=space)
    assert done.code == 0
    found = summary(tmp_path / "s")
    values = [trial["value"] for trial in found["trials"]]
    assert len(set(values)) > 1
    assert found["best"]["value"] == min(values) == min(found["best"]["evaluations"])


def test_a_trial_that_gets_its_processes_killed_is_given_up(
    study: Path, data: list[str], space: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    trial = optuna.load_study(study_name="tune", storage=f"sqlite:///{folder / 'study.db'}").ask()
    trial.set_user_attr("process", "of old")
    trial.set_user_attr("kills", 2)
    assert search(folder, *data, "--trials", str(TRIALS + 1), space=space).code == 0
    *others, last = summary(folder)["trials"]
    assert (last["state"], last["why"]) == ("failed", "the process of this trial was killed 3 times")
    assert others == summary(study)["trials"]


def test_no_trial_begins_after_the_time_is_up(data: list[str], space: Path, tmp_path: Path) -> None:
    done = search(tmp_path / "study", *data, "--trials", "50", "--timeout", "0.002", space=space)
    assert len(summary(tmp_path / "study")["trials"]) < 5
    assert done.code in (0, 1)


# What else is refused


def test_another_study_in_the_same_folder_is_refused(study: Path, data: list[str], space: Path, tmp_path: Path) -> None:
    before = (study / "tune.json").read_bytes()
    other = write_space(tmp_path, SPACE.replace("[8, 16, 32]", "[8, 64]") + "model.num_layers: [1, 2]\n")
    done = search(study, *data, "training.patience=2", "--trials", "9", space=other)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        f"Error: --dir: {study} contains a study with different settings or data; nothing was changed:\n"
        "  training.patience: was None, is now 2\n"
        "  space: model.hidden_size: was 8, 16, 32, is now 8, 64\n"
        "  space: model.num_layers: was not searched, is now 1, 2\n"
        "Hint: undo these changes, or use --dir runs/another-study\n"
    )
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    mine = write_data(tmp_path / "data")
    assert search(copy, *mine, "--trials", "9", space=space).code == 2  # other paths
    shutil.copy(copy / "config.yaml", tmp_path / "config.yaml")
    train = Path(load_config(str(copy / "config.yaml")).data.files.train)  # type: ignore[union-attr, arg-type]
    content = train.read_text()
    try:
        train.write_text("".join(content.splitlines(keepends=True)[1:]))
        done = search(copy, *data, "--trials", "9", space=space)
    finally:
        train.write_text(content)
    assert done.code == 2
    assert "  data: the train split has changed\n" in done.err
    assert (study / "tune.json").read_bytes() == before == (copy / "tune.json").read_bytes()


def test_folders_that_are_no_study(data: list[str], space: Path, study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = search(tmp_path / "file", *data, space=space)
    assert (done.code, done.err.splitlines()[-2]) == (2, f"Error: --dir: {tmp_path / 'file'} is a file")
    done = search(tmp_path, *data, space=space)
    assert done.code == 2
    assert f"Error: --dir: {tmp_path} contains files that are not a study; nothing was changed" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    shutil.copytree(study, tmp_path / "study")
    (tmp_path / "study" / "study.db").write_bytes(b"rubbish" * 1000)
    done = search(tmp_path / "study", *data, "--trials", "9", space=space)
    assert done.code == 3
    assert f"Error: {tmp_path / 'study' / 'study.db'}: damaged, or of another version of Optuna (" in done.err
    assert (tmp_path / "study" / "study.db").read_bytes() == b"rubbish" * 1000


def test_without_a_validation_split_there_is_nothing_to_go_by(tmp_path: Path) -> None:
    done = search(tmp_path / "study", "data.path=bundled:four_sentences")
    assert (done.code, done.out) == (2, "")
    assert "Error: a search needs a validation split, but the data have none\n" in done.err
    assert not (tmp_path / "study").exists()


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = search(tmp_path / "study", *SMALLER)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        "Error: textattn tune needs the package optuna\nHint: pip install 'textattn[tune]'\n"
    )  # fmt: skip
    assert not (tmp_path / "study").exists()


def test_the_study_is_sqlite_that_optuna_reads(study: Path) -> None:
    with sqlite3.connect(study / "study.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    loaded = optuna.load_study(study_name="tune", storage=f"sqlite:///{study / 'study.db'}")
    best = summary(study)["best"]
    assert (loaded.best_trial.number, loaded.best_value) == (best["trial"], best["value"])


def test_without_time_nothing_is_tried_and_nothing_has_failed(data: list[str], space: Path, tmp_path: Path) -> None:
    done = search(tmp_path / "study", *data, "--timeout", "0", space=space)
    assert done.code == 0, done.err
    assert summary(tmp_path / "study")["trials"] == []


def test_a_model_of_a_search_is_not_the_default(
    study: Path, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEXTATTN_MODEL", raising=False)
    shutil.copytree(trained_run, tmp_path / "runs" / "mine" / "1")
    shutil.copytree(study, tmp_path / "runs" / "mine-tune")
    best = tmp_path / "runs" / "mine-tune" / "trials" / str(summary(study)["best"]["trial"])
    (best / "metrics.json").touch()  # the newest
    assert newest_run() == Path("runs/mine/1")
    with pytest.raises(InputError, match="runs/mine-tune is not a run, but a folder of runs"):
        textattn.load("runs/mine-tune")


def test_a_missing_tool_is_said_before_a_trial_is_lost(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    done = search(tmp_path / "study", *data, "output.tracking=[wandb]")
    assert done.code == 2
    assert "pip install 'textattn[wandb]'" in done.err
    assert not (tmp_path / "study").exists()
