"""The page of explained texts as a browser shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browser import Browse, as_script
from html_pages import LABELS, METHODS, POS, explain, of_words, render, seen
from test_html_page import LONG, NASTY

from textattn.explain.html import PageText
from textattn.inference.classifier import Prediction
from textattn.inference.words import Word

NEG = Prediction("neg", 0.8, {"neg": 0.8, "pos": 0.2}, ["neg"])
ARABIC = "هذا الفيلم رائع جدًا، والممثلون excellent. "


def texts() -> list[PageText]:
    """Right and wrong ones, one without a label, a long one, Arabic."""

    def every(text: str, weights: dict[str, float], prediction: Prediction = POS, **more: Any) -> list[Any]:
        return [explain(text, weights, method, prediction, **more) for method in METHODS]

    steps = {
        "a": 0.2,
        "touching": 0.4,
        "dull": -0.2,
        "long": -0.4,
        "awful": -0.7,
        "worst": -1.0,
        "film": 0.6,
        "good": 1,
    }
    attended = [Word(f"w{i}", 3 * i, 3 * i + 2, share) for i, share in enumerate([0.5, 0.25, 0.15, 0.1, *[0.0] * 5])]
    cut, read = "skipped " * 40 + "end", [Word("end", 320, 323, 1.0)]
    shaded = " ".join(word.text for word in attended)
    return [
        PageText(every("a touching good film", {"good": 1.0}), ["pos"], [(2, 15)]),
        PageText(every("a dull long awful worst touching film , good", steps, NEG), ["neg"], [(2, 30)]),
        PageText(every("An AWFUL film", {"AWFUL": 1.0}, NEG), ["pos"]),
        PageText(every(LONG, {"great": 1.0}), ["neg"]),
        PageText(every("Größe", {"Größe": 1.0})),
        PageText(every(ARABIC * 60, {"excellent.": 0.0, "رائع": 1.0}), ["pos"]),
        PageText([of_words(cut, read, m, truncated=True, completeness_error=0.01) for m in METHODS], ["pos"]),
        PageText([of_words(shaded, attended, method) for method in METHODS], ["pos"]),
    ]


def page(**verdicts: str) -> str:
    return render(
        *texts(), model="A model", **({"attention": "Attention is so.", "occlusion": "Occlusion is."} | verdicts)
    )


def test_filters_search_and_the_count(browse: Browse) -> None:
    found = browse(
        page(),
        """
        const steps = {};
        const note = (name) => { steps[name] = [numbers(), byId("count").textContent, seen(byId("reset"))]; };
        note("start");
        set(byId("right"), option("right", "right")); note("right");
        set(byId("right"), option("right", "wrong")); note("wrong");
        set(byId("gold"), option("gold", "pos")); note("wrong pos");
        byId("reset").click(); note("reset");
        steps.focus = document.activeElement.id;
        set(byId("gold"), option("gold", "neg")); note("gold neg");
        set(byId("gold"), "");
        set(byId("given"), option("given", "neg")); note("given neg");
        set(byId("find"), "Awful"); note("given neg, awful");
        set(byId("given"), "");
        set(byId("find"), "GRÖSSE"); note("grösse");
        set(byId("find"), "größe"); note("größe");
        set(byId("find"), "no such thing"); note("nothing");
        steps.none = seen(document.querySelector(".none"));
        set(byId("find"), "words"); note("the text of a button");
        return steps;
        """,
    )
    everything = [list(range(1, 9)), "8 texts", False]
    assert found == {
        "start": everything,
        "right": [[1, 2, 6, 7, 8], "5 of 8 texts", True],
        "wrong": [[3, 4], "2 of 8 texts", True],
        "wrong pos": [[3], "1 of 8 texts", True],
        "reset": everything,
        "focus": "find",
        "gold neg": [[2, 4], "2 of 8 texts", True],
        "given neg": [[2, 3], "2 of 8 texts", True],
        "given neg, awful": [[2, 3], "2 of 8 texts", True],
        "grösse": [[], "0 of 8 texts", True],
        "größe": [[5], "1 of 8 texts", True],
        "nothing": [[], "0 of 8 texts", True],
        "none": True,
        "the text of a button": [[], "0 of 8 texts", True],
    }


def test_one_method_or_all_side_by_side(browse: Browse) -> None:
    script = """
    const first = all("article")[0];
    const look = () => ({
      about: all(".about section").filter(seen).map((s) => s.textContent.includes(" is")),
      panels: all(".panels section", first).length,
      shown: all(".panels section", first).filter(seen).map((s) => s.dataset.method),
      lefts: new Set(all(".panels section", first).filter(seen).map((s) => s.getBoundingClientRect().left)).size,
      named: all(".panels section .why b", first).filter(seen).map((b) => b.textContent),
    });
    const steps = [look()];
    for (const method of ["2", "all", "1"]) { choose(method); steps.push(look()); }
    return steps;
    """
    first, third, wide, second = browse(page(), script)
    assert first == {"about": [True], "panels": 3, "shown": ["0"], "lefts": 1, "named": []}
    assert third == {"about": [True], "panels": 3, "shown": ["2"], "lefts": 1, "named": []}
    assert wide == {"about": [True, False, True], "panels": 3, "shown": ["0", "1", "2"], "lefts": 3, "named": METHODS}
    assert second == {"about": [False], "panels": 3, "shown": ["1"], "lefts": 1, "named": []}
    assert browse(page(), script, size=(500, 900))[2]["lefts"] == 1


def test_long_texts_unfold(browse: Browse) -> None:
    found = browse(
        page(),
        """
        renderAll();
        choose("2");
        const article = all("article")[3];
        const text = () => all(".panels section", article).filter(seen).map((s) => s.querySelector(".text").innerText);
        const buttons = (method) => all(`[data-method="${method}"] .fold`, article);
        const steps = { folded: text()[0], label: buttons(2)[0].getAttribute("aria-expanded") };
        steps.made = getComputedStyle(buttons(2)[0], "::before").content;
        buttons(2)[0].click(); steps.first = text()[0];
        choose("1"); steps.other = text()[0]; choose("2");
        buttons(2)[0].click(); steps.again = text()[0];
        byId("full").click(); steps.full = text()[0]; steps.gone = buttons(2).some(seen);
        byId("full").click(); steps.back = text()[0];
        set(byId("find"), "it was dull"); steps.found = text()[0];
        set(byId("find"), "great film"); steps.refolded = text()[0];
        buttons(2)[1].click();
        set(byId("find"), ""); steps.kept = text()[0];
        return steps;
        """,
    )
    dull, great = "It was dull. " * 60, "A truly great film. "
    folded = {
        key: value.strip() for key, value in found.items() if isinstance(value, str) and key not in ("made", "label")
    }
    assert found["label"] == "false" and "180 words" in found["made"].replace('" attr(aria-label) "', "180 words")
    assert folded == {
        "folded": great.strip(),
        "first": (dull + great).strip(),
        "other": (dull + great).strip(),
        "again": great.strip(),
        "full": LONG.strip(),
        "back": great.strip(),
        "found": LONG.strip(),
        "refolded": great.strip(),
        "kept": (great + dull).strip(),
    }
    assert found["gone"] is False


def test_the_state_is_kept_in_the_address(browse: Browse) -> None:
    state = """
    const method = document.querySelector(":checked[name=method]").value;
    if (all("select").some((select) => select.selectedIndex < 0)) throw new Error("a filter shows nothing");
    return [location.hash, numbers(), method, byId("full").checked];
    """
    written = browse(
        page(),
        """
        choose("1");
        set(byId("right"), option("right", "wrong"));
        set(byId("find"), "awful & film=#1");
        set(byId("find"), "An AWFUL");
        byId("full").click();
        """
        + state,
    )
    assert written[1:] == [[3], "1", True]
    assert browse(page(), state, fragment=written[0]) == written
    later = f"location.hash = {json.dumps(written[0])}; await wait();"
    assert browse(page(), later + state) == written
    # An address made by hand, or for another page.
    everything = list(range(1, 9))
    for odd in ("#method=9&gold=99&right=%3Cb%3E&given=x", "#%E0%A4%A&&==&method", "#t3"):
        assert browse(page(), state, fragment=odd)[1:] == [everything, "0", False]


CONTRASTS = """
// All there is to read, in all states: everything unfolded and opened.
choose("all"); byId("full").click(); for (const details of all("details")) details.open = true;
await wait();
const rgb = (color) => {
  const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
  return { r, g, b, a };
};
const light = ({ r, g, b }) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const color = rgb(getComputedStyle(element).backgroundColor);
    if (color.a === 1) return color;
    if (color.a !== 0) throw new Error("half transparent: " + element.className);
  }
  throw new Error("no background");
};
const ratios = {};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const note = (element, style) => {
  const name = element.tagName.toLowerCase() + "." + element.className;
  ratios[name] = Math.min(ratios[name] ?? 99, ratio(rgb(style.color), behind(element)));
};
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !seen(element) || element.closest(".unseen, option, script")) continue;
  if (Number(getComputedStyle(element).opacity) !== 1) throw new Error("opacity: " + element.className);
  note(element, getComputedStyle(element));
}
for (const control of all("select, input:not([type=radio], [type=checkbox]), .fold"))
  note(control, getComputedStyle(control));
// The lines under words, and the box of what people marked.
for (const mark of all("mark")) if (getComputedStyle(mark).textDecorationLine === "underline")
  ratios["line of " + mark.className] = ratio(rgb(getComputedStyle(mark).textDecorationColor), behind(mark));
ratios["box"] = ratio(rgb(getComputedStyle(document.querySelector(".ev")).outlineColor), behind(document.body));
const look = (c) => { const s = getComputedStyle(document.querySelector("article mark." + c));
  return [s.textDecorationLine, s.textDecorationStyle]; };
return {
  ratios, dark: matchMedia("(prefers-color-scheme: dark)").matches, page: light(behind(document.body)),
  lines: ["a4", "p1", "p4", "c1", "c4"].map(look), box: getComputedStyle(document.querySelector(".ev")).outlineStyle,
};
"""


@pytest.mark.parametrize("dark", [False, True])
def test_everything_can_be_read_in_light_and_dark(browse: Browse, dark: bool) -> None:
    found = browse(page(), CONTRASTS, dark=dark)
    assert found["dark"] is dark
    assert (found["page"] < 0.05) if dark else (found["page"] > 0.9)
    ratios = found["ratios"]
    shades = {f"mark.{hue}{level}" for hue in "apc" for level in (1, 2, 3, 4)}
    assert shades | {"span.unread", "p.note", "p.marker wrong", "button.fold", "input.", "select."} <= set(ratios)
    assert {name: value for name, value in ratios.items() if value < 4.5 and not name.startswith("line of")} == {}
    # A line is no text: 3 is what WCAG asks of it.
    assert {name: value for name, value in ratios.items() if value < 3} == {}
    # Not by colour alone.
    solid, dashed = ["underline", "solid"], ["underline", "dashed"]
    assert found["lines"] == [["none", "solid"], solid, solid, dashed, dashed]
    assert found["box"] == "dotted"


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("method", ["0", "all"])
def test_nothing_runs_out_of_the_window(browse: Browse, width: int, method: str) -> None:
    long = "Donaudampfschifffahrtsgesellschaft" * 8
    label = Prediction(long, 0.9, {long: 0.9}, [long])
    hard = [
        PageText([explain(f"{long} {long}", {long: 1.0}, m, label, against=long) for m in METHODS], [long]),
        PageText([explain(ARABIC + long + "\tx" * 60, {long: 1.0}, m) for m in METHODS], [long], [(0, 300)]),
    ]
    found = browse(
        render(*texts(), *hard, labels=[*LABELS, long], model=long, attention=long),
        """
        renderAll();
        byId("full").click();
        for (const details of all("details")) details.open = true;
        choose("METHOD"); await wait();
        const width = document.documentElement.clientWidth;
        const out = all("body *").filter((e) => seen(e) && !e.closest(".unseen")).filter((e) => {
          const box = e.getBoundingClientRect();
          return box.width && (box.right > width + 1 || box.left < -1);
        });
        const scroll = document.documentElement.scrollWidth;
        return { width: innerWidth, scroll, out: out.map((e) => e.outerHTML.slice(0, 80)) };
        """.replace("METHOD", method),
        size=(width, 900),
    )
    assert found == {"width": width, "scroll": width, "out": []}


def test_a_browser_reads_every_text_as_it_was(browse: Browse) -> None:
    odd = [chr(code) for code in (*range(0x250), 0x1680, *range(0x2000, 0x2070), 0xFEFF, 0xFFFD, 0xFFFF, 0x10FFFF)]
    written = [*NASTY, "".join(odd), *(f"{c}a{c}b{c}" for c in odd)]
    found = browse(
        render(*(PageText([explain(text, {text.strip(): 1.0})], None, [(0, 1)]) for text in written)),
        "return all('.text').map((e) => e.textContent);",
    )
    assert found == [seen(text) for text in written]


def test_right_to_left(browse: Browse) -> None:
    found = browse(
        page(),
        """
        const text = (number) => all("article")[number - 1].querySelector(".text");
        return [1, 6].map((number) => {
          const style = getComputedStyle(text(number));
          return [style.direction, style.whiteSpace, text(number).querySelectorAll(".fold").length > 0];
        });
        """,
    )
    assert found[0] == ["ltr", "pre-wrap", False]
    assert found[1][:2] == ["rtl", "pre-wrap"]


def test_controls_are_native_and_labelled(browse: Browse) -> None:
    found = browse(
        page(),
        """
        const controls = all("select, input, button, summary, details, [tabindex], [onclick], a");
        return {
          kinds: [...new Set(controls.map((e) => e.tagName))].sort(),
          nameless: all("select, input").filter((e) => !e.labels.length || !e.labels[0].textContent.trim()).length
            + all("button").filter((e) => !e.textContent.trim() && !e.ariaLabel).length,
          unreachable: all(".controls select, .controls input").filter((e) => {
            e.focus(); return document.activeElement !== e; }).map((e) => e.id + e.name),
          live: byId("count").ariaLive, title: document.title, language: document.documentElement.lang,
        };
        """,
    )
    assert found == {
        "kinds": ["BUTTON", "DETAILS", "INPUT", "SELECT", "SUMMARY"],
        "nameless": 0,
        "unreachable": [],
        "live": "polite",
        "title": "A model: 8 texts explained",
        "language": "en",
    }


def test_without_scripts_everything_is_shown(browse: Browse) -> None:
    # A frame without scripts, of a page of its own that can look into it.
    frame = f"<!doctype html><html><head></head><body><script>window.inner = {as_script(page())}"
    found = browse(
        frame + "</script></body></html>",
        """
        const frame = document.createElement("iframe");
        frame.sandbox = "allow-same-origin"; frame.width = 1000; frame.height = 700; frame.srcdoc = inner;
        await new Promise((resolve) => { frame.onload = resolve; document.body.append(frame); });
        const within = frame.contentDocument;
        return {
          panels: all("section", within).filter(seen).length, texts: all(".rest", within).filter(seen).length,
          rests: all(".rest", within).length, controls: all(".controls, .fold", within).filter(seen).length,
        };
        """,
    )
    assert found["panels"] == 3 + 3 * len(texts())
    assert found["texts"] == found["rests"] > 0
    assert found["controls"] == 0


def test_the_policy_forbids_requests_and_this_test_would_notice(browse: Browse) -> None:
    script = """
    const image = new Image(); image.src = "data:image/gif;base64,R0lGODlhAQABAAAAACw="; document.body.append(image);
    await wait();
    return 0;
    """
    report = browse(page(), script, quiet=False)
    assert report["problems"] == ["violation: img-src"]
    assert [name[:15] for name in report["requests"]] == ["data:image/gif;"]
    with pytest.raises(AssertionError, match="error: "):
        browse(page(), "setTimeout(() => { throw new Error('x'); }); await wait(); return 0;")
    with pytest.raises(AssertionError, match="nonsense"):
        browse(page(), "nonsense();")


def test_a_real_model(browse: Browse, trained_run: Path) -> None:
    import textattn

    model = textattn.load(trained_run)
    written = [
        "Delicious food, friendly staff!",
        "Terrible.\n\nCold   soup <br /> & rude waiter",
        "日本語 👍🏽",
        "?",
        LONG,
    ]
    by_method = [model.explain(written, method=method) for method in METHODS]
    pages = [PageText(found) for found in zip(*by_method, strict=True)]
    found = browse(
        render(*pages, labels=model.config.labels),
        "choose('all'); return [all('.text').map((e) => e.textContent), all('.text').filter(seen).length];",
    )
    assert found == [[text for text in written for _ in METHODS], 15]
