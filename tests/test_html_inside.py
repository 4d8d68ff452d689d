"""What the page says of the inside of a model: sums of contributions, attention beside them, what tokens attend to."""

from __future__ import annotations

import math
import re
from pathlib import Path

import explain_models
import pytest
from browser import Browse
from html_pages import Page, explain, render
from inprocess import run as cli

from textattn.explain.explanations import Sum
from textattn.explain.html import PageText, render_page
from textattn.inference.classifier import Prediction

TEXT = "the food was good and the staff were kind"


def page_of(model: explain_models.Model, **question: str) -> tuple[Page, list[float]]:
    """The page of one text, and the numbers of its sum."""
    explanations = model.explain(TEXT, method="contributions", **question)
    page = Page(render_page([PageText(explanations)], {}, labels=model.labels, model="m"))
    (line,) = page.all("p", "sum")
    numbers = [float(n.replace(" ", "")) for n in re.findall(r"[-+]? ?\d+\.\d{3}", line.text.replace("−", "-"))]
    return page, numbers


@pytest.mark.parametrize("ngrams", [0, 2])
def test_the_sum_leads_to_the_log_odds_of_the_answer(ngrams: int) -> None:
    model = explain_models.build(output=(2, "softmax", False), ngrams=ngrams, ngram_buckets=64)
    page, numbers = page_of(model)
    *parts, answer = numbers
    assert len(parts) == (3 if ngrams else 2)
    assert sum(parts) == pytest.approx(answer, abs=0.0021)  # each is rounded to 0.0005
    probability = model.predict(TEXT)[0].score
    assert answer == pytest.approx(math.log(probability / (1 - probability)), abs=0.0006)
    label = model.predict(TEXT)[0].label
    assert page.all("p", "sum")[0].text.endswith(f", the log-odds of {label}")


def test_of_several_labels_the_sum_says_what_it_is() -> None:
    several = explain_models.build(output=(5, "softmax", False))
    page, (*parts, answer) = page_of(several, target="label 3")
    assert page.all("p", "sum")[0].text.endswith("the logit of label 3 less the mean of the others")
    logits = explain_models.logits(several, explain_models.ids_of(several, TEXT))
    assert answer == pytest.approx(logits[3] - (sum(logits) - logits[3]) / 4, abs=0.0006)
    assert sum(parts) == pytest.approx(answer, abs=0.0016)
    other = next(label for label in several.labels if label not in ("label 3", several.predict(TEXT)[0].label))
    page, numbers = page_of(several, target="label 3", against=other)
    assert page.all("p", "sum")[0].text.endswith(f"the log-odds of label 3 rather than {other}")
    assert numbers[-1] == pytest.approx(logits[3] - logits[several.labels.index(other)], abs=0.0006)
    own = explain_models.build(output=(3, "sigmoid", True))
    page, numbers = page_of(own, target="label 1")
    assert page.all("p", "sum")[0].text.endswith("the log-odds of label 1")
    probability = own.predict_proba(TEXT)[0, 1]
    assert numbers[-1] == pytest.approx(math.log(probability / (1 - probability)), abs=0.0006)


def test_calibration_and_names_of_labels_are_told() -> None:
    total = Sum(bias=-0.25, words=1.5, ngrams=None, answer=1.25, temperature=1.5, is_log_odds=True)
    prediction = Prediction("<b>", 0.9, {"<b>": 0.9}, ["<b>"])
    page = Page(render(explain("so", {"so": 1.5}, "contributions", prediction, total=total)))
    (line,) = page.all("p", "sum")
    assert line.text == "−0.250 bias + 1.500 words = 1.250, the log-odds of <b>, which calibration divides by 1.50"
    assert [e.tag for e in page.elements if line in e.inside] == ["bdi"]


def test_the_table_has_the_attention_of_each_word() -> None:
    total = Sum(0.0, 0.5, None, 0.5, 1.0, True)
    found = explain(
        "a good film", {"good": 1.0, "film": -0.5}, "contributions", word_attention=[0.25, 0.7, 0.05], total=total
    )
    page = Page(render(PageText([found, explain("a good film", {"good": 1.0})])))
    first, second = ([e for e in page.elements if table in e.inside] for table in page.all("table"))
    assert [e.tag for e in first].count("th") == 4
    assert [e.tag for e in second].count("th") == 3
    cells = re.findall(r'<td class="amount">([^<]+)', render(found))
    assert cells == ["+1.00", "0.700", "−0.500", "0.0500"]


def test_other_methods_have_no_sum() -> None:
    page = Page(render(explain("so", {"so": 1.0})))
    assert not page.all("p", "sum")


MAPS = [[[0.5, 0.5, 0.0], [0.004, 0.0, 0.996], [0.1, 0.2, 0.7]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]


def test_what_each_token_attends_to_is_a_table_for_each_head() -> None:
    both = [explain("a <b> film", {"film": 1.0}, method) for method in ("attention", "occlusion")]
    page = Page(render(PageText(both, maps=MAPS)))
    (maps,) = page.all("details", "maps")
    assert any(outer.attributes.get("data-method") == "0" for outer in maps.inside)
    assert [e.text for e in page.all("caption")] == [f"head {head}: row attends to column" for head in (1, 2)]
    cells = [e for e in page.elements if e.tag in ("td", "th") and maps in e.inside]
    # A head is a corner, the names of the columns, and three rows of a name and three cells.
    assert [e.tag for e in cells] == (["td", "th", "th", "th"] + ["th", "td", "td", "td"] * 3) * 2
    names = [e.text for e in page.all("bdi") if maps in e.inside]
    assert names == ["a", "<b>", "film"] * 4
    shades = [e.attributes.get("style", "--w:0%") for e in cells if e.tag == "td"]
    first = [f"--w:{share}%" for share in (0, 50, 50, 0, 0, 0, 100, 10, 20, 70)]
    assert shades == [*first, *(f"--w:{share}%" for share in (0, 100, 0, 0, 0, 100, 0, 0, 0, 100))]
    assert not Page(render(PageText(both))).all("details", "maps")


@pytest.mark.parametrize("dark", [False, True])
def test_a_map_stays_in_the_window_and_is_darker_where_more_attention_goes(browse: Browse, dark: bool) -> None:
    number, word = 25, "Donaudampfschifffahrt"
    rows = [[float(i == j) * 0.6 + 0.4 / number for j in range(number)] for i in range(number)]
    found = browse(
        render(PageText([explain(" ".join([word] * number), {word: 0.04}, "attention")], maps=[rows])),
        """
        renderAll();
        for (const details of all("details")) details.open = true;
        await wait();
        const rows = all(".maps tbody tr").map((row) => all("td", row).map((c) => getComputedStyle(c).backgroundColor));
        const widths = all(".maps tbody td").map((cell) => cell.getBoundingClientRect().width);
        const size = [document.documentElement.scrollWidth, innerWidth];
        return { rows, size, widths: [Math.min(...widths), Math.max(...widths)] };
        """,
        size=(380, 900),
        dark=dark,
    )
    assert found["size"] == [380, 380]
    assert found["widths"][0] > 8 and found["widths"][0] == pytest.approx(found["widths"][1], abs=1)
    assert len({found["rows"][i][i] for i in range(number)}) == 1
    assert len({found["rows"][i][j] for i in range(number) for j in range(number) if i != j}) == 1
    assert found["rows"][0][0] != found["rows"][0][1]


def test_the_command_writes_maps_for_short_texts(self_attention: Path, trained_run: Path, tmp_path: Path) -> None:
    def tables(run: Path, *arguments: str) -> int:
        done = cli("explain", "--model", run, "-f", "--html", tmp_path / "x.html", *arguments)
        assert done.code == 0, done.err
        return len(Page((tmp_path / "x.html").read_text(encoding="utf-8")).all("caption"))

    assert tables(self_attention, "--method", "attention,occlusion", "a joy", "good " * 40) == 2
    assert tables(self_attention, "a joy") == 0
    assert tables(trained_run, "--method", "attention", "a joy") == 0
