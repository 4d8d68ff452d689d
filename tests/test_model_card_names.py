"""The model card of a model with names from strangers, rendered: they are seen, and are nothing but names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import MakeOnce
from markdown_it import MarkdownIt
from markdown_it.token import Token

import textattn

# As the card shows them.
LABELS = {
    "# heading": "# heading",
    "x\n\n# Verified by the Hub\n\n---": "x\\n\\n# Verified by the Hub\\n\\n---",
    "![x](https://example.org/x.png)": "![x](https://example.org/x.png)",
    "<img src=https://example.org/y.png>": "<img src=https://example.org/y.png>",
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "[click](https://example.org)": "[click](https://example.org)",
    "a | b \\| c \\": "a | b \\| c \\",
    "`code` *and* _more_ ~~gone~~ &amp;": "`code` *and* _more_ ~~gone~~ &amp;",
    "esc\x1b[2J and \u202eturned": "esc␛[2J and \ufffdturned",
    "plain": "plain",
}


@pytest.fixture(scope="module")
def card(make_once: MakeOnce) -> str:
    return (make_once("hostile-card", make) / "run" / "README.md").read_text()


def make(folder: Path) -> None:
    rows = [
        {"text": f"word{number} text {i}", "label": label} for i in range(12) for number, label in enumerate(LABELS)
    ]
    # One that is always the most frequent, so that it is named in a sentence.
    rows += [{"text": f"word1 more {i}", "label": list(LABELS)[7]} for i in range(12)]
    data = folder / "`a` <b> ![x](y) \u202e.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = ["tokenizer.vocab_size=100", "model.embedding_dim=8", "model.hidden_size=8", "training.epochs=1"]
    settings = [f"output.dir={folder / 'run'}", "output.audit_examples=0", "output.plots=false", *sizes]
    textattn.train({"data": {"path": str(data)}, "recipe": "plain"}, settings)


def rendered(card: str) -> list[Token]:
    """The card without its metadata, as GitHub and the Hub read it."""
    markdown = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
    tokens = markdown.parse(card.split("\n---\n", 1)[1])
    return [inner for token in tokens for inner in (token, *(token.children or ()))]


def shown(token: Token) -> str:
    return "".join(child.content for child in token.children or ())


def test_names_add_no_markup(card: str) -> None:
    tokens = rendered(card)
    kinds = {token.type for token in tokens}
    assert not kinds & {"html_block", "html_inline", "image", "em_open", "strong_open", "s_open", "hr"}
    # The only link is our own, to the report.
    assert [token.attrs for token in tokens if token.type == "link_open"] == [{"href": "report.html"}]
    headings = [token.map for token in rendered(card) if token.type == "heading_open"]
    lines = card.split("\n---\n", 1)[1].split("\n")
    names = [lines[where[0]].split(":")[0] for where in headings if where]
    assert names[0] == "# Text classifier"
    assert set(names[1:]) <= {"## Results", "## How to use it", "## Comparison with a linear model"}


def test_the_table_has_a_row_for_each_label_and_shows_it(card: str) -> None:
    tokens = rendered(card)
    starts = [place for place, token in enumerate(tokens) if token.type == "tr_open"]
    rows = [place for place in starts if tokens[place + 1].type == "td_open"]
    assert sorted(shown(tokens[place + 2]) for place in rows[-len(LABELS) :]) == sorted(LABELS.values())


def test_names_in_sentences_are_shown_as_they_are(card: str) -> None:
    codes = [token.content for token in rendered(card) if token.type == "code_inline"]
    assert list(LABELS.values())[7] in codes
    assert any(code.endswith("/`a` <b> ![x](y) \ufffd.jsonl") for code in codes)


def test_nothing_in_the_card_is_obeyed_and_the_metadata_have_the_name(card: str) -> None:
    assert not {c for c in card if (ord(c) < 32 and c != "\n") or c == "\u202e"}
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["model-index"][0]["results"][0]["dataset"]["name"].endswith("`a` <b> ![x](y) \u202e.jsonl")
