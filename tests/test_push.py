"""Models that are sent to the Hub and copied from it, by the real client against a Hub on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Runner
from hub_server import READER, WRITER, Hub, serve_hub

from textattn.export.push import card_for
from textattn.storage.run_dir import MODEL_FILES

TEXTS = ("good food and a friendly cook", "slow and rude, never again")
SENT = {
    "config.json", "model.safetensors", "model.onnx", "tokenizer.json", "tokenizer_config.json", "checksums.json",
    "training_config.yaml", "metrics.json", "reference.json", "README.md",
}  # fmt: skip
Ask = Callable[..., Any]


@pytest.fixture
def hub(tmp_path: Path, shared: Path) -> Iterator[Hub]:
    with serve_hub(tmp_path / "hub", shared) as hub:
        yield hub


@pytest.fixture
def ask(hub: Hub, textattn: Runner, tmp_path: Path) -> Ask:
    """Runs a command that may use the network and is logged in, in an empty folder."""
    (tmp_path / "here").mkdir()
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": None, "HF_TOKEN": WRITER}
    # The other protocol for large files needs a server of its own.
    env["HF_HUB_DISABLE_XET"] = "1"
    return lambda *words, **more: textattn(*words, cwd=tmp_path / "here", env=env | more)


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A run that may be changed."""
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def test_what_is_pushed_and_pulled_answers_the_same(hub: Hub, ask: Ask, trained_run: Path, tmp_path: Path) -> None:
    done = ask("push", trained_run, "me/reviews", "--private")
    assert done.returncode == 0, done.stderr
    repository = hub.repositories["me/reviews"]
    assert repository.private
    assert done.stdout == f"{hub.endpoint}/me/reviews/commit/{repository.branches['main']}\n"
    # One commit besides the one with which a repository begins.
    assert repository.number_of_commits == 2
    sent = hub.files("me/reviews")
    assert {name for name in sent if not name.startswith("plots/")} == SENT | {".gitattributes"}
    assert [name for name in sent if name.startswith("plots/")] == [
        f"plots/{path.name}" for path in sorted((trained_run / "plots").iterdir())
    ]
    done = ask("pull", "me/reviews")
    assert (done.returncode, done.stdout) == (0, "reviews\n"), done.stderr
    pulled = tmp_path / "here/reviews"
    for name in MODEL_FILES:
        if (trained_run / name).exists():
            assert (pulled / name).read_bytes() == (trained_run / name).read_bytes(), name
    answers = [
        ask("predict", "--json", "--model", model, *TEXTS, HF_TOKEN=READER).stdout
        for model in (trained_run, pulled, "hf://me/reviews")
    ]
    assert answers[0]
    assert answers[0] == answers[1] == answers[2]
    # A model that was pulled can be pushed again, and is the same.
    assert ask("push", "reviews", "me/again").returncode == 0
    assert {n: c for n, c in hub.files("me/again").items() if n != "README.md"} == {
        n: c for n, c in sent.items() if n != "README.md"
    }


def test_no_file_that_is_sent_contains_a_text_of_the_data(ask: Ask, trained_run: Path, hub: Hub) -> None:
    import textattn
    from textattn.inference.evaluation import load_split

    (trained_run / "predictions").stat()
    (trained_run / "report.html").stat()
    assert ask("push", trained_run, "me/reviews").returncode == 0
    model = textattn.load(trained_run)
    texts = [text for split in ("train", "validation", "test") for text in load_split(model, None, split, {})]
    assert len(texts) > 1000
    sent = hub.files("me/reviews")
    for name, content in sent.items():
        # The tokenizer has single words.
        plain = content.decode(errors="replace")
        assert [text for text in texts if len(text.split()) > 3 and text in plain] == [], name
    assert "report.html" not in sent["README.md"].decode()
    assert ask("push", trained_run, "me/reviews", "--report").returncode == 0
    sent = hub.files("me/reviews")
    assert sent["report.html"] == (trained_run / "report.html").read_bytes()
    assert "[report.html](report.html)" in sent["README.md"].decode()


def test_the_card_has_results_that_the_client_reads(ask: Ask, hub: Hub, trained_run: Path) -> None:
    from huggingface_hub import ModelCard

    assert ask("push", trained_run, "me/reviews").returncode == 0
    card = ModelCard(hub.files("me/reviews")["README.md"].decode())
    assert card.data.model_name == "reviews"
    measured = json.loads((trained_run / "metrics.json").read_text())
    found = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert found["test", "accuracy"] == measured["test"]["accuracy"]
    assert 'textattn predict --model hf://me/reviews "a sentence"' in card.content
    assert "--model . " not in card.content


def test_a_card_that_somebody_has_written_is_sent_as_it_is() -> None:
    for card in ("my own words\n", "---\nlicense: mit\n---\n# Hello\n", "---\n: [\n---\n", "---\n- 1\n---\n"):
        assert card_for(card, "me/x", report=True) == card


def test_a_dry_run_lists_the_files_and_asks_nobody(ask: Ask, hub: Hub, trained_run: Path) -> None:
    done = ask("push", trained_run, "me/reviews", "--dry-run", "--json", HF_TOKEN=None, HF_HUB_OFFLINE="1")
    listed = {file["name"]: file["bytes"] for file in json.loads(done.stdout)["files"]}
    assert set(listed) >= SENT
    assert hub.requests == []
    assert ask("push", trained_run, "me/reviews").returncode == 0
    assert listed == {name: len(content) for name, content in hub.files("me/reviews").items() if name[0] != "."}
    done = ask("push", trained_run, "me/reviews", "--dry-run")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["file", *listed]


def test_parts_of_an_earlier_model_do_not_stay(ask: Ask, hub: Hub, run: Path) -> None:
    (run / "model.int8.onnx").write_bytes((run / "model.onnx").read_bytes())
    assert ask("push", run, "me/reviews", "--report").returncode == 0
    hub.add("me/reviews", {"notes.txt": b"mine", "plots/mine.png": b"mine"})
    (run / "model.int8.onnx").unlink()
    done = ask("push", run, "me/reviews")
    assert done.returncode == 0, done.stderr
    assert "does not have them: model.int8.onnx, report.html" in done.stderr
    sent = hub.files("me/reviews")
    assert {"model.int8.onnx", "report.html"}.isdisjoint(sent)
    assert (sent["notes.txt"], sent["plots/mine.png"]) == (b"mine", b"mine")


def test_a_branch_is_made_and_read(ask: Ask, hub: Hub, run: Path, tmp_path: Path) -> None:
    assert ask("push", run, "me/reviews").returncode == 0
    (run / "README.md").write_text("---\nmodel-index: [{name: x}]\n---\nthe second\n")
    done = ask("push", run, "me/reviews", "--revision", "v2")
    assert done.returncode == 0, done.stderr
    assert "the second" in hub.files("me/reviews", "v2")["README.md"].decode()
    assert "the second" not in hub.files("me/reviews")["README.md"].decode()
    assert ask("pull", "me/reviews@v2", "second").returncode == 0
    assert "the second" in (tmp_path / "here/second/README.md").read_text()
    assert ask("pull", "me/reviews@v3").returncode == 3
    # Into a repository that does not exist yet.
    assert ask("push", run, "me/other", "--revision", "v1").returncode == 0
    assert "config.json" in hub.files("me/other", "v1")
    assert list(hub.files("me/other")) == [".gitattributes"]


REFUSED: dict[str, tuple[dict[str, str | None], str, int, str]] = {
    "nobody": ({"HF_TOKEN": None}, "me/reviews", 2, "nobody is logged in to the Hugging Face Hub\nHint: hf auth login"),
    "reader": ({"HF_TOKEN": READER}, "me/reviews", 2, "the token has no right to write to me/reviews"),
    "wrong": ({"HF_TOKEN": "hf_old"}, "me/reviews", 2, "the Hub does not accept the token"),
    "theirs": ({}, "them/reviews", 2, "the token has no right to write to them/reviews"),
    "offline": ({"HF_HUB_OFFLINE": "1"}, "me/reviews", 3, "HF_HUB_OFFLINE is set\nHint: unset HF_HUB_OFFLINE"),
    "no name": ({}, "reviews", 2, "a model on the Hub is named user/name, got 'reviews'"),
    "branch": ({}, "me/reviews@v1", 2, "a branch is given by an option\nHint: --revision v1"),
    "away": ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "me/reviews", 3, "me/reviews could not be written on the Hub: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_push_that_cannot_be_is_refused(case: str, ask: Ask, hub: Hub, trained_run: Path) -> None:
    env, name, code, message = REFUSED[case]
    done = ask("push", trained_run, name, **env)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert hub.repositories == {}


def test_what_is_no_model_is_not_written_over(ask: Ask, hub: Hub, trained_run: Path) -> None:
    hub.create("me/thesis")
    hub.add("me/thesis", {"config.json": b'{"model_type": "bert"}', "thesis.tex": b"mine"})
    done = ask("push", trained_run, "me/thesis")
    assert done.returncode == 2
    assert "me/thesis contains files that are not a model of textattn, such as config.json" in done.stderr
    assert "Hint: --overwrite adds the model" in done.stderr
    assert len(hub.files("me/thesis")) == 3
    assert ask("push", trained_run, "me/thesis", "--overwrite").returncode == 0
    assert hub.files("me/thesis")["thesis.tex"] == b"mine"
    assert json.loads(hub.files("me/thesis")["config.json"])["model_type"] == "textattn"
    # A repository that somebody has just made has a card at most.
    hub.create("me/empty")
    hub.add("me/empty", {"README.md": b"soon"})
    assert ask("push", trained_run, "me/empty").returncode == 0


def test_a_private_model_is_not_sent_to_a_public_repository(ask: Ask, hub: Hub, trained_run: Path) -> None:
    hub.create("me/reviews")
    done = ask("push", trained_run, "me/reviews", "--private")
    assert done.returncode == 2
    assert "me/reviews exists and is public; nothing was sent" in done.stderr
    assert list(hub.files("me/reviews")) == [".gitattributes"]


def test_a_failure_on_the_way_leaves_the_repository_as_it_was(ask: Ask, hub: Hub, trained_run: Path) -> None:
    hub.fails["/commit/"] = 422
    done = ask("push", trained_run, "me/reviews")
    assert done.returncode == 3
    assert "me/reviews could not be written on the Hub" in done.stderr
    assert "(the repository me/reviews was made and is empty)" in done.stderr
    assert list(hub.files("me/reviews")) == [".gitattributes"]
    hub.fails = {"/commit/": 412}
    assert "was changed by somebody else" in ask("push", trained_run, "me/reviews").stderr
    hub.objects.clear()
    hub.fails = {"/store/": 400}
    assert ask("push", trained_run, "me/reviews").returncode == 3
    hub.fails = {}
    assert ask("push", trained_run, "me/reviews").returncode == 0


def test_unfinished_and_damaged_runs_are_not_sent(ask: Ask, hub: Hub, run: Path) -> None:
    weights = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    done = ask("push", run, "me/reviews")
    assert done.returncode == 3
    assert "model.safetensors: damaged" in done.stderr
    (run / "model.safetensors").write_bytes(weights)
    (run / "metrics.json").unlink()
    done = ask("push", run, "me/reviews")
    assert done.returncode == 3
    assert f"{run}: unfinished; only the model of a finished run is sent" in done.stderr
    assert hub.requests == []


def test_a_bundle_is_sent_as_the_files_in_it(ask: Ask, hub: Hub, trained_run: Path, tmp_path: Path) -> None:
    assert ask("export", "--model", trained_run, "--bundle", "model.zip").returncode == 0
    assert ask("push", "model.zip", "me/small").returncode == 0
    sent = {name for name in hub.files("me/small") if not name.startswith("plots/")}
    assert sent == SENT - {"model.safetensors"} | {".gitattributes"}
    assert ask("pull", "me/small").returncode == 0
    assert ask("predict", "--model", "small", *TEXTS).stdout == ask("predict", "--model", trained_run, *TEXTS).stdout


def test_a_repository_with_a_bundle_is_pulled(ask: Ask, hub: Hub, trained_run: Path, tmp_path: Path) -> None:
    assert ask("export", "--model", trained_run, "--bundle", "model.zip").returncode == 0
    hub.create("them/bundle")
    hub.add("them/bundle", {"model.zip": (tmp_path / "here/model.zip").read_bytes()})
    assert ask("pull", "them/bundle").returncode == 0
    assert ask("predict", "--model", "bundle", *TEXTS).stdout == ask("predict", "--model", trained_run, *TEXTS).stdout


def test_pull_replaces_only_what_is_ours_and_when_asked(ask: Ask, hub: Hub, run: Path, tmp_path: Path) -> None:
    assert ask("push", run, "me/reviews").returncode == 0
    here = tmp_path / "here"
    (here / "mine").mkdir()
    (here / "mine/config.json").write_text("{}")
    (here / "file").write_text("mine")
    for name in ("mine", "file"):
        done = ask("pull", "me/reviews", name, "--overwrite")
        assert done.returncode == 2, done.stderr
        assert "nothing was changed" in done.stderr
    assert (here / "mine/config.json").read_text() == "{}"
    (here / "empty").mkdir()
    assert ask("pull", "me/reviews", "empty").returncode == 0
    done = ask("pull", "me/reviews", "empty")
    assert done.returncode == 2
    assert "empty already contains a model; nothing was changed" in done.stderr
    (here / "empty/notes.txt").write_text("mine")
    (here / "empty/model.onnx").write_bytes(b"old")
    assert ask("pull", "me/reviews", "empty", "--overwrite").returncode == 0
    assert (here / "empty/notes.txt").read_text() == "mine"
    assert (here / "empty/model.onnx").read_bytes() == (run / "model.onnx").read_bytes()
    assert [path.name for path in here.iterdir() if path.name.startswith(".")] == []


def test_what_cannot_be_used_is_not_pulled(ask: Ask, hub: Hub, run: Path, tmp_path: Path) -> None:
    assert ask("push", run, "me/reviews").returncode == 0
    good = hub.files("me/reviews")
    hub.create("them/other")
    hub.add("them/other", {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x"})
    hub.create("them/damaged")
    hub.add("them/damaged", good | {"model.onnx": good["model.onnx"][:-1] + b"?"})
    hub.create("them/nothing")
    for name, message in {
        "them/other": "hf://them/other/config.json: not a textattn model",
        "them/damaged": "hf://them/damaged/model.onnx: damaged: its checksum differs",
        "them/nothing": "them/nothing on the Hub is not a textattn model",
        "them/missing": "them/missing could not be read from the Hub: there is no such repository, or it is private",
    }.items():
        done = ask("pull", name)
        assert (done.returncode, done.stdout) == (3, ""), name
        assert message in done.stderr
    assert list((tmp_path / "here").iterdir()) == []


def test_a_link_that_leads_nowhere_is_not_followed(ask: Ask, hub: Hub, run: Path, tmp_path: Path) -> None:
    assert ask("push", run, "me/reviews").returncode == 0
    (tmp_path / "here/reviews").symlink_to(tmp_path / "elsewhere")
    done = ask("pull", "me/reviews")
    assert done.returncode == 2
    assert not (tmp_path / "elsewhere").exists()
