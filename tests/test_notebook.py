"""Answers as a notebook shows them: fragments of HTML, and a notebook that is run."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import explain_models
import pytest
from browser import Browse
from html_pages import METHODS, Page, expected_shade, explain, page_texts, seen
from hypothesis import given, settings
from test_html_page import NASTY

from textattn.explain.explanations import Explanation
from textattn.explain.html import PageText
from textattn.inference.classifier import Prediction
from textattn.inference.notebook import MOST_SHOWN, Answers

TEXTS = ["the food was good and the staff were kind", "not good at all", "?", *(text for text in NASTY if text.strip())]


def shown(value: Any) -> Page:
    """What a notebook is given."""
    return Page(value._repr_html_())


def text_of(page: Page) -> str:
    (body,) = page.all("div", dir="auto")
    return body.text


@settings(max_examples=50, deadline=None)
@given(page_text=page_texts())
def test_an_explanation_is_its_text_with_the_words_marked_that_the_page_marks(page_text: PageText) -> None:
    for explanation in page_text.explanations:
        page = shown(explanation)
        assert text_of(page) == (seen(explanation.text) if explanation.text.strip() else "(an empty text)")
        (body,) = page.all("div", dir="auto")
        words = [(w, expected_shade(w, explanation.words, explanation.signed)) for w in explanation.words]
        marked = [(seen(explanation.text)[w.start : w.end], shade) for w, shade in words if shade]
        marks = [mark for mark in page.all("mark") if body in mark.inside]
        assert [mark.text for mark in marks] == [text for text, _ in marked if explanation.text.strip()]
        for mark, (_, shade) in zip(marks, marked, strict=False):
            red, _, blue, alpha = map(float, re.findall(r"[\d.]+", mark.attributes["style"])[:4])
            assert alpha == pytest.approx(0.13 * int(shade[1]))
            assert (blue > red) == (shade[0] == "p")
            line = re.search("underline (solid|dashed)", mark.attributes["style"])
            assert (line and line[1]) == {"a": None, "p": "solid", "c": "dashed"}[shade[0]]


@pytest.mark.parametrize("where", ["text", "label", "target", "against"])
def test_nothing_from_data_becomes_part_of_the_fragment(where: str) -> None:
    def build(nasty: str) -> Explanation:
        label = nasty if where == "label" else "pos"
        prediction = Prediction(label, 0.9, {"neg": 0.1, label: 0.9}, [label])
        target, against = nasty if where == "target" else label, nasty if where == "against" else "neg"
        text = nasty if where == "text" else "a fine film"
        return explain(text, {}, "occlusion", prediction, target=target, against=against)

    plain = shown(build("harmless"))
    for nasty in NASTY:
        if not nasty.strip():
            continue
        for value, expected in ((build(nasty), plain), (build(nasty).prediction, shown(build("harmless").prediction))):
            page = shown(value)
            assert page.comments == 0
            assert [(e.tag, sorted(e.attributes)) for e in page.elements] == [
                (e.tag, sorted(e.attributes)) for e in expected.elements
            ]


@pytest.mark.parametrize("method", ["contributions", *METHODS])
def test_answers_of_a_model(method: str) -> None:
    model = explain_models.build(output=(5, "softmax", False))
    explanations = model.explain(TEXTS, method=method)
    fragment = explanations._repr_html_()  # type: ignore[attr-defined]
    assert fragment == "".join(explanation._repr_html_() for explanation in explanations)
    assert "<script" not in fragment and "class=" not in fragment
    first = shown(explanations[0])
    assert first.all("b")[0].text == explanations[0].prediction.label
    assert f"{explanations[0].prediction.score:.3f}" in fragment
    sums = re.findall(r"bias [+−] [\d.]+ words = ", fragment)
    assert len(sums) == (len(TEXTS) if method == "contributions" else 0)


def test_a_prediction_names_the_given_labels_and_the_most_probable_of_the_others() -> None:
    scores = {"a": 0.1, "b": 0.3, "c": 0.25, "d": 0.2, "e": 0.05, "f": 0.06, "g": 0.04}
    text = shown(Prediction("b", 0.3, scores, ["b"])).all("div")[0].text
    assert text == "b 0.300 · c 0.250 · d 0.200 · a 0.100 · f 0.060 · 2 more"
    several = shown(Prediction("b", 0.3, {"b": 0.9, "c": 0.8, "d": 0.1}, ["b", "c"]))
    assert several.all("div")[0].text == "b 0.900 · c 0.800 · d 0.100"
    assert [e.text for e in several.all("b")] == ["b", "c"]
    assert shown(Prediction("b", 0.3, {"b": 0.3}, [])).all("div")[0].text == "no label · b 0.300"


def test_a_list_of_answers_is_a_list() -> None:
    model = explain_models.build()
    for answers in (model.predict(TEXTS[:3]), model.explain(TEXTS[:3])):
        assert isinstance(answers, list)
        same = list(answers)
        assert answers == same and repr(answers) == repr(same) and same == answers
        assert pickle.loads(pickle.dumps(answers)) == same
    assert model.predict([]) == []
    assert shown(model.predict([])).all("div")[0].text == "(no texts)"
    mixed = Answers([1, "<b>"])
    assert mixed._repr_html_() == "<div>1</div><div>&#x27;&lt;b&gt;&#x27;</div>"
    many = Answers(model.predict(["good"]) * (MOST_SHOWN + 1_234))
    assert [e.text for e in shown(many).all("div")][MOST_SHOWN:] == ["… and 1,234 more"]


CONTRASTS = """
const rgb = (color) => { const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
const over = ([r, g, b, a], back) => [r, g, b].map((v, i) => v * a + back[i] * (1 - a));
const light = (color) => color.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const page = over(rgb(getComputedStyle(document.body).backgroundColor), [255, 255, 255]);
return all("mark, b, span, div > div").map((element) => {
  const style = getComputedStyle(element);
  const back = over(rgb(style.backgroundColor), page);
  const ink = over([...rgb(style.color).slice(0, 3), Number(style.opacity)], back);
  const [x, y] = [light(back), light(ink)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
});
"""


@pytest.mark.parametrize(("ink", "paper"), [("#000", "#fff"), ("#212121", "#fafafa"), ("#fff", "#111"),
                                            ("#e0e0e0", "#1e1e1e")])  # fmt: skip
def test_it_can_be_read_on_light_and_dark_paper(browse: Browse, ink: str, paper: str) -> None:
    weights = {"a": 1.0, "b": 0.7, "c": 0.4, "d": 0.2, "e": -1.0, "f": -0.7, "g": -0.4, "h": -0.2}
    values = [explain(" ".join(weights), weights), explain("a b c d e f g", {"a": 0.9}, "attention")]
    fragment = "".join(value._repr_html_() for value in values)
    found = browse(
        f'<!doctype html><html><head></head><body style="color:{ink};background:{paper}">{fragment}</body></html>',
        CONTRASTS,
    )
    assert len(found) > 12
    assert min(found) > 4.5


def test_a_notebook_shows_the_highlights(trained_run: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    cells = [
        f"import textattn\nmodel = textattn.load({str(trained_run)!r})",
        'model.explain(["A joy, really.", "Cold soup."])',
        'model.explain("A joy, really.", method="contributions")[0]',
        'model.predict(["A joy, really."])',
        'print(model.predict("A joy, really.")[0].line())',
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    first, explained, one, predicted, printed = (cell.outputs for cell in notebook.cells)
    assert first == []
    ((listed,), (single,), (answer,)) = explained, one, predicted
    page = Page(listed.data["text/html"])
    assert [body.text for body in page.all("div", dir="auto")] == ["A joy, really.", "Cold soup."]
    assert page.all("mark")
    label, score = printed[0].text.strip().split("\t")
    assert single.data["text/html"] in listed.data["text/html"]
    assert answer.data["text/html"].startswith(f"<div><b><bdi>{label}</bdi></b> {float(score):.3f}")
    assert listed.data["text/plain"].startswith("[Explanation(")
