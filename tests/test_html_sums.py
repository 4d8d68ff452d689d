"""The page of contributions: the sum that leads to the answer, and attention beside the contribution of each word."""

from __future__ import annotations

import math
import re

import explain_models
import pytest
from html_pages import Page, explain, render

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
