"""A path that is missing here is never asked of the Hub, and what is read from there says where it is from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Runner

from textattn.storage import hub as hub_names

COMMIT = "a" * 40
Ask = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def root(trained_run: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repositories of a Hub: strangers own the names that people use for their own files."""
    root = tmp_path_factory.mktemp("strangers")
    for name in ("runs/quickstart", "someone/reviews", "models/best", "my/model.zip"):
        (root / "models" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "models" / name).symlink_to(trained_run)
    for name in ("runs/data", "data/reviews", "someone/texts"):
        (root / "datasets" / name).mkdir(parents=True)
        rows = "".join(f"fine food {i},pos\nstale food {i},neg\n" for i in range(30))
        (root / "datasets" / name / "train.csv").write_text(f"text,label\n{rows}")
    return root


@pytest.fixture(scope="module")
def endpoint(root: Path, shared: Path) -> Iterator[tuple[str, Path]]:
    """The address of the Hub, and the file where it writes down every request."""
    log = root / "requests.log"
    command = [sys.executable, str(shared / "tools/local_hub.py"), str(root), "0", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip(), log
        server.kill()


@pytest.fixture
def ask(endpoint: tuple[str, Path], textattn: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a command that may use the network, in an empty folder that also holds `models` and `data`."""
    here = tmp_path / "here"
    for name in ("models", "data"):
        (here / name).mkdir(parents=True)
    env = {"HF_ENDPOINT": endpoint[0], "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": None}
    endpoint[1].write_text("")
    return lambda *words, **more: textattn(*words, cwd=here, env=env | more)


def requests(endpoint: tuple[str, Path]) -> str:
    return endpoint[1].read_text()


NEVER = ["runs/quickstart", "Runs/quickstart", "models/best", "models/best@main", "my/model.zip", "./someone/reviews",
         "someone/reviews/", "a/someone/reviews", "/someone/reviews",
         "~/someone/reviews", "runs/quickstart@main"]  # fmt: skip


@pytest.mark.parametrize("name", NEVER)
def test_a_path_to_a_missing_model_is_not_asked_of_the_hub(name: str, ask: Ask, endpoint: tuple[str, Path]) -> None:
    done = ask("predict", "--model", name, "fine food")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no such folder: " in done.stderr
    assert requests(endpoint) == ""


def test_a_name_that_may_be_either_is_refused_with_both_readings(ask: Ask, endpoint: tuple[str, Path]) -> None:
    done = ask("predict", "--model", "someone/reviews", "fine food")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "Error: --model: no such folder: someone/reviews; a model on the Hub is named hf://someone/reviews\n"
        "Hint: --model hf://someone/reviews asks the Hub\n"
    )
    assert requests(endpoint) == ""


@pytest.mark.parametrize("name", ["hf://someone/reviews", "someone/reviews@main", "hf://runs/quickstart@main"])
def test_a_model_of_the_hub_answers_and_stderr_says_which(name: str, ask: Ask, endpoint: tuple[str, Path]) -> None:
    done = ask("predict", "--model", name, "Delicious food, friendly staff.")
    repo_id = name.removeprefix("hf://").removesuffix("@main")
    said = f"Note: The model is {repo_id} from the Hugging Face Hub, commit {COMMIT}"
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pos\t")
    assert done.stderr.endswith(f"{said} of 2024-01-01\n")
    assert requests(endpoint) != ""
    quiet = ask("-q", "predict", "--model", name, "Delicious food, friendly staff.", HF_HUB_OFFLINE="1")
    assert (quiet.stdout, quiet.stderr) == (done.stdout, "")
    offline = ask("predict", "--model", name, "Delicious food, friendly staff.", HF_HUB_OFFLINE="1")
    assert (offline.stdout, offline.stderr) == (done.stdout, f"{said}\n")


def test_data_that_look_local_are_not_asked_of_the_hub(ask: Ask, endpoint: tuple[str, Path]) -> None:
    for name in ("data/reviews", "runs/data", "someone/texts.zip"):
        done = ask("check", "quickstart", f"data.path={name}", "--no-forecast")
        assert done.returncode == 3, done.stderr
        assert "no such file" in done.stderr
    for setting in ("tokenizer.path=runs/quickstart", "tokenizer.path=my/model.json"):
        done = ask("check", "quickstart", "tokenizer.type=pretrained", setting, "--no-forecast")
        assert done.returncode == 3, done.stderr
        assert "tokenizer.path: no such file or folder: " in done.stderr
    done = ask("train", "quickstart", "data.unlabelled.path=data/reviews", "data.teacher=runs/quickstart")
    assert done.returncode == 3, done.stderr
    assert requests(endpoint) == ""


def test_data_of_the_hub_say_where_they_are_from(ask: Ask) -> None:
    for name in ("someone/texts", "hf://data/reviews"):
        done = ask("check", "quickstart", f"data.path={name}", "--no-forecast")
        assert done.returncode == 0, done.stderr
        repo_id = name.removeprefix("hf://")
        said = f"Note: The data set is {repo_id} from the Hugging Face Hub, commit {COMMIT} of 2024-01-01\n"
        assert done.stderr.count(said) == 1


@pytest.mark.parametrize("name", ["imdb", "stanfordnlp/imdb", "bert-base-uncased", "gpt-3.5/x-1.5"])
def test_names_of_the_hub_do_not_look_like_paths(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not hub_names.looks_like_a_path(name)
