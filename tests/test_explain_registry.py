"""The list of explanation methods: the files of the folder and nothing else, told without numpy or torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from inprocess import run as cli

from textattn.errors import ConfigError
from textattn.explain import methods
from textattn.explain.methods import audited_names, find_method, method_names, ngram_method_names

FOLDER = Path(methods.__file__).parent


def test_the_methods_are_the_files_of_the_folder() -> None:
    names = [*method_names(), *ngram_method_names()]
    assert sorted(names) == sorted(file.stem for file in FOLDER.glob("[!_]*.py"))
    assert [find_method(name).name for name in names] == names
    assert set(audited_names()) <= set(method_names())


def test_their_order_is_the_one_of_help_messages_and_audits() -> None:
    given = ["attention", "attention_x_gradient", "gradient_x_input", "integrated_gradients", "occlusion"]
    assert [name for name in method_names() if name in given] == given
    assert [name for name in method_names() if name in ("lime", "kernel_shap")] == ["lime", "kernel_shap"]
    assert "ngrams" in ngram_method_names()


@pytest.mark.parametrize("name", ["_base", "__init__", "os", "textattn.errors", "../gradients", "", "Attention"])
def test_nothing_else_can_be_named(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown method"):
        find_method(name)


@pytest.mark.parametrize("command", ["explain", "audit"])
def test_help_names_what_there_is(command: str) -> None:
    shown = " ".join(cli(command, "--help").out.split())
    slow = [name for name in method_names() if name not in audited_names()]
    for name in slow if command == "audit" else [*method_names(), *ngram_method_names()]:
        assert name in shown
    if command == "explain":
        *others, last = method_names()
        assert f"{', '.join(others)} or {last}, and {' and '.join(ngram_method_names())} for a model that has" in shown


def test_each_says_what_its_scores_are() -> None:
    said = [find_method(name).says for name in [*method_names(), *ngram_method_names()]]
    assert all(said) and len(set(said)) == len(said)


def test_listing_them_loads_neither_numpy_nor_torch() -> None:
    script = (
        "import sys; from textattn.explain import methods;"
        "methods.method_names(), methods.audited_names(), methods.ngram_method_names();"
        "print({'numpy', 'torch', 'captum', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
