"""The page of explained texts as a file: every text as it is, every word marked as it counted, nothing unescaped."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from html_pages import LABELS, METHODS, Page, expected_shade, explain, of_words, page_texts, render, seen
from hypothesis import given, settings

import textattn
from textattn.explain import marks
from textattn.explain.html import PageText, render_page
from textattn.inference.classifier import Prediction
from textattn.inference.words import Word

NASTY = [
    "</script><script>alert(1)</script>",
    "<!-- <script> --> ]]> <![CDATA[ <?xml ?> </div></article></main></html>",
    "\"><img src=x onerror=alert(1)> ' onmouseover='alert(1)' \" autofocus onfocus=\"alert(1)",
    "&lt;b&gt; &amp; &#60; &unknown; &copy &#x0; javascript:alert(1)",
    "line\u2028and\u2029paragraph, \x00\x07\x1b[31m\x7f\x85\x9f \r\n lone \r end\x0c",
    "$model ${title} $$ {0} %s \\u003c",
    "\u202eright to left\u202c \u2066isolated\u2069 \ufeff\ufffe\U0001ffff",
    "\n\n  two lines first\t\ttabs  ",
    "👩‍👩‍👧 e\u0301 日本語 العربية",
    "?",
    " \n . ",
]


@settings(max_examples=150, deadline=None)
@given(page_text=page_texts())
def test_a_block_is_the_text_with_each_word_marked_as_it_counted(page_text: PageText) -> None:
    page = Page(render(page_text))
    assert len(page.bodies()) == 2
    for explanation, body in zip(page_text.explanations, page.bodies(), strict=True):
        assert body.text == seen(explanation.text)
        shades = [""] * len(explanation.text)
        for word in explanation.words:
            shade = expected_shade(word, explanation.words, explanation.signed)
            shades[word.start : word.end] = [shade] * (word.end - word.start)
        found = ["".join("".join(e.classes) for e in inside if e.tag == "mark") for _, inside in body.characters]
        assert found == shades
        if not page_text.evidence:
            # No word is cut, not even where a passage ends.
            marks = [e.text for e in page.all("mark") if body in e.inside]
            given = [w for w in explanation.words if expected_shade(w, explanation.words, explanation.signed)]
            assert marks == [seen(explanation.text)[word.start : word.end] for word in given]
        evidence = [any(a <= place < b for a, b in page_text.evidence) for place in range(len(explanation.text))]
        assert [any("ev" in e.classes for e in inside) for _, inside in body.characters] == evidence
        folded = [any("rest" in e.classes for e in inside) for _, inside in body.characters]
        assert not any(hidden and marked for hidden, marked in zip(folded, evidence, strict=True))
        # A word is strong where it starts; what is told of it must not be hidden there.
        for word in explanation.words:
            strong = expected_shade(word, explanation.words, explanation.signed)[1:] in ("3", "4")
            assert not (strong and folded[word.start])


def test_shades_are_shares_of_the_strongest_word() -> None:
    weights = {"a": 2.0, "b": -1.5, "c": 1.4998, "d": -1.0, "e": 0.5, "f": 0.4998, "g": -0.3, "h": 0.2998, "i": 0.0}
    page = Page(render(explain(" ".join(weights), weights)))
    marks = {e.text: e.classes[0] for e in page.all("mark") if page.bodies()[0] in e.inside}
    assert marks == {"a": "p4", "b": "c4", "c": "p3", "d": "c3", "e": "p2", "f": "p1", "g": "c1"}
    shares = {"a": 0.55, "b": 0.25, **dict.fromkeys("cdefghij", 0.02)}  # an equal share is 0.1
    page = Page(render(explain(" ".join(shares), shares, "attention")))
    assert [e.classes[0] for e in page.all("mark") if page.bodies()[0] in e.inside] == ["a4", "a2"]


@pytest.mark.parametrize("where", ["text", "label", "gold", "model", "verdict", "word"])
def test_nothing_that_comes_from_data_becomes_part_of_the_page(where: str) -> None:
    def build(nasty: str) -> str:
        text = nasty if where in ("text", "word") else "a fine film"
        label = nasty if where == "label" else "pos"
        prediction = Prediction(label, 0.9, {"neg": 0.1, label: 0.9}, [label])
        words = [Word(text, 0, len(text), 1.0)] if where == "word" else []
        found = [of_words(text, words, method, prediction, against="neg") for method in METHODS]
        page_text = PageText(found, [nasty if where == "gold" else "neg"], [(0, len(text))])
        verdicts = {"attention": nasty if where == "verdict" else "Trust it."}
        model = nasty if where == "model" else "m"
        return render_page([page_text], verdicts, labels=["neg", label], model=model)

    plain = Page(build("harmless"))
    assert plain.comments == 0
    for nasty in filter(None, NASTY):
        page = Page(build(nasty))
        assert page.comments == 0
        assert len(page.all("script")) == len(plain.all("script")) == 1
        assert page.all("script")[0].text == plain.all("script")[0].text
        # Marks and tables come and go with the words; all else stays as it is, down to the names of attributes.
        assert skeleton(page) == skeleton(plain)
        assert {e.tag for e in page.elements} <= {e.tag for e in plain.elements}
        assert {name for e in page.elements for name in e.attributes} <= {
            name for e in plain.elements for name in e.attributes
        }


def skeleton(page: Page) -> list[tuple[str, list[str]]]:
    return [
        (e.tag, sorted(e.attributes))
        for e in page.elements
        if e.tag not in ("mark", "bdi", "p") and not any(outer.tag == "details" for outer in (*e.inside, e))
    ]


def test_it_asks_for_nothing_from_outside() -> None:
    page = render(
        PageText([explain("a fine film", {"fine": 1}, m) for m in METHODS], ["pos"], [(0, 1)]), occlusion="So."
    )
    for forbidden in ("http:", "https:", "src=", "url(", "@import", "<link", "<img", "<iframe", "<base", "//cdn"):
        assert forbidden not in page
    first = next(e for e in Page(page).elements if e.tag == "meta" and "http-equiv" in e.attributes)
    assert first.attributes["content"] == ("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'")
    order = [e.tag for e in Page(page).elements]
    assert order.index("script") > order.index("style") > order.index("meta")
    assert Page(page).all("meta", charset="utf-8")
    assert page.startswith("<!doctype html>\n")


def test_the_same_input_gives_the_same_bytes() -> None:
    texts = [PageText([explain(f"film {i}", {"film": 1.0}, m) for m in METHODS], [LABELS[i % 2]]) for i in range(5)]
    assert render(*texts).encode() == render(*texts).encode()


def test_real_explanations_of_a_trained_model(trained_run: Path) -> None:
    model = textattn.load(trained_run)
    texts = [
        "Delicious food, friendly staff!",
        "Terrible.\n\nCold   soup <br /> & rude waiter",
        "日本語 👍🏽",
        "?",
        *NASTY,
    ]
    by_method = [model.explain(texts, method=method) for method in METHODS]
    page_texts = [PageText(found) for found in zip(*by_method, strict=True)]
    page = Page(render_page(page_texts, {"occlusion": "Good evidence."}, labels=model.config.labels, model="tiny"))
    assert [body.text for body in page.bodies()] == [seen(text) for text in texts for _ in METHODS]
    assert len(page.all("article")) == len(texts)
    for body, explanation in zip(page.bodies(), [e for t in page_texts for e in t.explanations], strict=True):
        marks = [e for e in page.all("mark") if body in e.inside]
        assert "".join(m.text for m in marks) == seen(
            "".join(w.text for w in explanation.words if expected_shade(w, explanation.words, explanation.signed))
        )
        assert all(m.attributes["title"] for m in marks)
    errors = [p.text for p in page.all("p", "note") if "Completeness error" in p.text]
    assert len(errors) == len(texts)


def test_the_answer_the_label_and_what_is_explained_are_said() -> None:
    wrong = explain("bad", {"bad": -1}, target="neg", against="pos")
    page = Page(render(PageText([wrong], ["neg"]), PageText([explain("good")], ["pos"]), PageText([explain("so")])))
    titles = [e.text for e in page.all("h2") if e.inside[-1].tag == "header"]
    assert titles == ["1 pos 0.900", "2 pos 0.900", "3 pos 0.900"]
    assert [e.text for e in page.all("p", "marker")] == ["✗ wrong: neg", "✓ right: pos"]
    assert [e.text for e in page.all("p", "why")] == [
        "occlusion why neg 0.100 rather than pos", "occlusion why pos", "occlusion why pos"
    ]  # fmt: skip
    assert page.all("p", "facts")[0].text == "3 texts explained · 1 of 2 with a known label right (50.0\u00a0%)"


def test_attention_is_not_said_to_be_for_a_label() -> None:
    page = Page(render(explain("good", {"good": 1.0}, "attention", target="neg")))
    assert page.all("p", "why")[0].text == "attention where it looked, the same for every label"
    assert {e.classes[0][0] for e in page.all("mark")} == {"a"}


@pytest.mark.parametrize(
    ("given_labels", "gold", "right"),
    [
        (["pos"], ["pos"], True),
        (["pos"], ["neg"], False),
        (["pos"], None, None),
        (["pos"], [], False),
        ([], [], True),
        ([], ["pos"], False),
        (["neg", "pos"], ["pos", "neg"], True),
        (["neg", "pos"], ["pos"], False),
        (["pos"], ["pos", "unknown"], False),
        (["a, b"], ["a, b"], True),
        (["a, b", "pos"], ["pos", "a, b"], True),
        (["a, b"], ["a"], False),
        (["a, b"], ["a", "b"], False),
    ],
)
def test_right_is_all_true_labels_and_no_other(
    given_labels: list[str], gold: list[str] | None, right: bool | None
) -> None:
    scores = dict.fromkeys(["neg", "pos", "a, b"], 0.5)
    page_text = PageText([explain("so", prediction=Prediction("pos", 0.5, scores, given_labels))], gold)
    assert page_text.right is right
    (article,) = Page(render(page_text, labels=list(scores))).all("article")
    assert article.attributes["data-right"] == {True: "1", False: "0", None: ""}[right]


def options(page: Page, name: str) -> dict[str, str]:
    """Value -> what the filter calls it."""
    return {
        e.attributes["value"]: e.text for e in page.all("option") if e.inside[-1].attributes.get("id") == name
    }  # fmt: skip


def test_filters_offer_the_labels_that_occur() -> None:
    scores = {"neg": 0.5, "pos": 0.6, "mixed": 0.1, "never": 0.0}
    several = explain("so", prediction=Prediction("pos", 0.6, scores, ["neg", "pos"]))
    none = explain("so", prediction=Prediction("pos", 0.4, scores, []))
    texts = [
        PageText([several], ["neg", "pos"]),
        PageText([several], ["mixed"]),
        PageText([none], []),
        PageText([none], ["odd"]),
    ]
    page = Page(render(*texts, labels=list(scores)))
    assert list(options(page, "gold").values()) == ["any", "neg (1)", "pos (1)", "mixed (1)", "(none) (1)", "odd (1)"]
    assert list(options(page, "given").values()) == ["any", "neg (2)", "pos (2)", "(none) (2)"]
    assert list(options(page, "right").values()) == ["all", "right (2)", "wrong (2)"]
    gold = options(page, "gold")
    named = [[gold[value] for value in a.attributes["data-gold"].split()] for a in page.all("article")]
    assert named == [["neg (1)", "pos (1)"], ["mixed (1)"], ["(none) (1)"], ["odd (1)"]]


def test_without_labels_there_is_no_filter_by_them() -> None:
    page = Page(render(explain("so")))
    assert not options(page, "gold") and not options(page, "right") and options(page, "given")
    assert not page.all("input", name="method")


def test_each_method_has_its_verdict_and_legend() -> None:
    page = Page(render(PageText([explain("so", {"so": 1}, m) for m in METHODS], None, [(0, 1)]), occlusion="Good."))
    about = [e for e in page.all("section") if any("about" in outer.classes for outer in e.inside)]
    assert [e.attributes["data-method"] for e in about] == ["0", "1", "2"]
    assert ["hidden" in e.attributes for e in about] == [False, True, True]
    assert ["Good." in e.text for e in about] == [False, False, True]
    assert ["more attention" in e.text for e in about] == [True, False, False]
    assert ["against the label" in e.text for e in about] == [False, True, True]
    assert all("marked by people" in e.text for e in about)
    assert [e.attributes["value"] for e in page.all("input", name="method")] == ["0", "1", "2", "all"]


LONG = "It was dull. " * 60 + "A truly great film. " + "It was dull. " * 60


def test_a_long_text_is_folded_to_what_tells_the_same_for_all_methods() -> None:
    other = explain(LONG, {}, "attention")
    words = [replace(word, weight=float(place == 101)) for place, word in enumerate(other.words)]
    page_text = PageText([explain(LONG, {"great": 1.0}), of_words(LONG, words, "attention")])
    page = Page(render(page_text))
    for body in page.bodies():
        buttons = [e.attributes["aria-label"] for e in page.all("button", "fold") if body in e.inside]
        rests = [e.text for e in page.all("span", "rest") if body in e.inside]
        assert body.text == LONG
        assert buttons == ["99 words", "78 words", "180 words"]
        assert rests == ["It was dull. " * 33, "It was dull. " * 26, "It was dull. " * 60]
    marked = Page(render(replace(page_text, evidence=[(LONG.rindex("dull"), LONG.rindex("dull") + 4)])))
    assert [e.attributes["aria-label"] for e in marked.all("button", "fold")] == [
        "99 words",
        "78 words",
        "177 words",
    ] * 2


def test_a_text_of_some_words_is_shown_in_full() -> None:
    assert not Page(render(explain("dull " * 149 + "great", {"great": 1.0}))).all("button", "fold")
    (button,) = Page(render(explain("dull " * 150 + "great", {"great": 1.0}))).all("button", "fold")
    assert int(button.attributes["aria-label"].split()[0]) == 150


@pytest.mark.parametrize(("num_words", "folds"), [(14, 0), (15, 1)])
def test_a_few_words_are_not_worth_a_fold(num_words: int, folds: int) -> None:
    text = "A great one. " * 50 + "dull " * (num_words - 1) + "dull. " + "A great one."
    assert len(Page(render(explain(text, {"great": 1.0}))).all("button", "fold")) == folds


def test_a_passage_does_not_end_inside_a_word() -> None:
    place = LONG.index("dull. A truly")
    words = [Word("dull. A", place, place + 7, 0.4), Word("great", place + 14, place + 19, 1.0)]
    page = Page(render(of_words(LONG, words)))
    assert [e.text for e in page.all("mark") if page.bodies()[0] in e.inside] == ["dull. A", "great"]
    assert [e.attributes["aria-label"] for e in page.all("button", "fold")] == ["177 words", "180 words"]


def test_of_a_long_text_with_nothing_to_tell_the_beginning_is_shown() -> None:
    page = Page(render(explain(LONG)))
    (rest,) = page.all("span", "rest")
    assert page.bodies()[0].text == LONG
    assert LONG.removesuffix(rest.text) == "It was dull. "


def test_a_text_without_spaces_or_sentences_is_cut_too() -> None:
    text = "电影" * 300
    words = [Word(text[i : i + 2], i, i + 2, float(i == 300)) for i in range(0, 600, 2)]
    page = Page(render(of_words(text, words)))
    assert page.bodies()[0].text == text
    assert [e.attributes["aria-label"] for e in page.all("button", "fold")] == ["300 words", "250 words"]


def test_what_was_not_read_is_told_apart() -> None:
    text = "good start " + "skipped " * 40 + "good end"
    words = [w for w in explain(text, {"good": 1.0}).words if w.text != "skipped"]
    page = Page(render(of_words(text, words, truncated=True)))
    (unread,) = page.all("span", "unread")
    assert unread.text.strip() == ("skipped " * 40).strip()
    assert "longer than the model reads" in page.all("p", "note")[0].text
    long = text.replace("skipped ", "skipped " * 10)
    words = [w for w in explain(long, {"good": 1.0}).words if w.text != "skipped"]
    (button,) = Page(render(of_words(long, words, truncated=True))).all("button", "fold")
    assert button.attributes["aria-label"] == "400 words not read"


def test_the_table_holds_the_strongest_words_with_their_numbers() -> None:
    weights = {f"w{i}": (-1) ** i * i / 10 for i in range(15)}
    page = Page(render(explain(" ".join(weights), weights)))
    cells = [e for e in page.elements if e.tag == "bdi" and any(outer.tag == "table" for outer in e.inside)]
    assert [e.text for e in cells] == [f"w{i}" for i in range(14, 4, -1)]
    assert page.all("mark", "p4")[-1].attributes["title"] == "+1.40"
    assert page.all("mark", "c4")[-1].attributes["title"] == "−1.30"
    assert [e.attributes["style"] for e in page.all("i")][:3] == ["width:100%", "width:93%", "width:86%"]
    assert not Page(render(explain("all zero"))).all("table")


@pytest.mark.parametrize(
    ("weight", "signed", "shown"),
    [(0.5, True, "+0.500"), (-0.12345, True, "−0.123"), (0.0408, False, "0.0408"), (123.0, True, "+123"),
     (-1.5e-6, True, "−1.50e−06"), (0.4, False, "0.400")],
)  # fmt: skip
def test_numbers(weight: float, signed: bool, shown: str) -> None:
    assert marks.number(weight, signed) == shown


@pytest.mark.parametrize(("error", "shown"), [(0.004, "0.4\u00a0%"), (math.inf, "not defined"), (None, None)])
def test_the_completeness_error(error: float | None, shown: str | None) -> None:
    page = Page(render(explain("so", {"so": 1.0}, "integrated_gradients", completeness_error=error)))
    assert [p.text for p in page.all("p", "note")] == ([] if shown is None else [f"Completeness error: {shown}"])


def test_weights_that_are_no_numbers_mark_nothing() -> None:
    for value in (math.nan, math.inf, -math.inf):
        page = Page(render(explain("so it is", {"so": value, "it": 1.0})))
        assert page.bodies()[0].text == "so it is"


def test_a_page_of_nothing() -> None:
    page = Page(render())
    assert page.all("p", "facts")[0].text == "0 texts explained"
    assert not page.all("article")


def test_a_book_takes_no_time() -> None:
    # Quadratic work would take minutes.
    text = ("It was a dull film, and then some great scenes came. " * 10_000).strip()
    found = explain(text, {"great": 1.0, "dull": -0.3})
    spans = [(i, i + 20) for i in range(0, 20_000, 100)]
    page = render(PageText([found], ["pos"], spans))
    assert page.count('class="p4"') > 9_999
