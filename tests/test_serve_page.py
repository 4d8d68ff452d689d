"""The page of a server in a real browser, with a real server behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from inprocess import run as cli
from serving import TEXT, Running, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("fastapi", reason="needs the extra serve")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
MIXED = "The food was cold, but the staff were friendly. Never again!"
# Characters outside the BMP, other directions, markup: shown as they are.
NASTY = "\U0001f600\U0001f600 delicious <img src=x onerror=alert(1)> &amp; \u05d8\u05e2\u05d9\u05dd friendly"


@pytest.fixture(scope="module")
def server(trained_run: Path, self_attention: Path, number_run: Path) -> Iterator[Running]:
    models = {"reviews": trained_run, "other": self_attention, "price": number_run}
    with running(*(word for name, run in models.items() for word in ("--model", f"{name}={run}"))) as found:
        yield found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with playwright.sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield found
        found.close()


Problems = list[str]


@pytest.fixture
def problems() -> Problems:
    return []


@pytest.fixture
def open_page(browser: Browser, server: Running, problems: Problems) -> Iterator[Any]:
    """Opens the page; errors, warnings and requests to other hosts are failures."""
    contexts = []

    def run(width: int = 1200, scheme: str = "light", url: str = server.url) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page: Page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith((url, "data:")) else problems.append(request.url)
        )
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.goto(url)
        page.locator("textarea").first.wait_for()
        return page

    yield run
    for context in contexts:
        context.close()
    assert problems == []


# The marked words, each with its hue, its letters and its number.
WORDS = "all => all.map(w => [w.firstChild.className[0], ...[...w.children].map(c => c.textContent)])"


def shown_text(page: Page) -> str:
    """The text below the answer, without the numbers."""
    script = (
        "e => { const copy = e.cloneNode(true); copy.querySelectorAll('small').forEach(s => s.remove()); return copy; }"
    )
    shown = page.locator(".text").first.evaluate(f"e => ({script})(e).textContent")
    return str(shown)


def fill(page: Page, text: str, number: int = 0) -> None:
    """Types a text and waits for its answer."""
    with page.expect_response(lambda response: response.url.endswith("/explain")):
        page.locator("textarea").nth(number).fill(text)
    page.locator("article").nth(number).locator(".found:not([aria-busy])").wait_for()


def test_it_answers_as_one_types(open_page: Any, server: Running) -> None:
    page = open_page()
    assert page.locator(".found").is_hidden()
    fill(page, MIXED)
    (expected,) = server.ask("/explain", {"text": MIXED, "top_k": 2}).json()["answers"]
    assert page.locator(".answer").inner_text() == f"{expected['label']} {expected['score']:.3f}"
    rows = page.locator(".bars li").all_inner_texts()
    assert [row.split() for row in rows] == [[s["label"], f"{s['score']:.3f}"] for s in expected["scores"]]
    widths = page.eval_on_selector_all(".bars i", "bars => bars.map(b => b.getBoundingClientRect().width)")
    assert widths[0] / sum(widths) == pytest.approx(expected["score"], abs=0.02)
    # The text is all there, once, with its words marked for and against, and their numbers.
    shown = shown_text(page)
    assert shown == MIXED
    marks = page.eval_on_selector_all(".text .word", WORDS)
    by_word = {word["word"]: word["weight"] for word in expected["words"]}
    assert len(marks) >= 2
    for hue, word, number in marks:
        assert hue == ("p" if by_word[word] > 0 else "c")
        assert number == f"{by_word[word]:+.2f}".replace("-", "−")
    total = expected["sum"]
    numbers = [
        float(n.replace("−", "-").replace(" ", ""))
        for n in re.findall(r"[−+]? ?\d+\.\d+", page.locator(".sum").inner_text())
    ]
    assert numbers[:3] == pytest.approx([total["bias"], total["words"], total["answer"]], abs=0.006)
    assert page.locator("tbody tr").count() == len([w for w in expected["words"] if w["word"].strip()])
    fill_empty = page.locator("textarea").first
    fill_empty.fill("  ")
    page.locator(".found").wait_for(state="hidden")


def test_only_the_last_text_is_asked_and_shown(open_page: Any) -> None:
    """The page's clock stands still while one types, so that no pause of this machine counts as one of the writer."""
    page = open_page()
    asked: list[str] = []
    page.on(
        "request", lambda request: asked.append(request.post_data_json["text"]) if request.method == "POST" else None
    )
    page.clock.install(time=0)
    page.clock.pause_at(1000)
    page.locator("textarea").focus()
    for letter in TEXT:
        page.keyboard.type(letter)
        page.clock.run_for(20)
    assert asked == []
    with page.expect_response(lambda response: response.url.endswith("/explain")):
        page.clock.run_for(1000)
    page.locator(".found:not([aria-busy])").wait_for()
    assert asked == [TEXT] and shown_text(page) == TEXT

    # An answer that comes after the next text was typed is not shown.
    held: list[Any] = []
    page.route(
        "**/explain",
        lambda route: held.append(route) if route.request.post_data_json["text"] == "slow" else route.continue_(),
    )
    with page.expect_request(lambda request: request.url.endswith("/explain")):
        page.locator("textarea").fill("slow")
        page.clock.run_for(1000)
    with page.expect_response(lambda response: response.url.endswith("/explain")):
        page.locator("textarea").fill(MIXED)
        page.clock.run_for(1000)
    page.locator(".found:not([aria-busy])").wait_for()
    (late,) = held
    late.continue_()
    page.clock.run_for(1000)
    assert shown_text(page) == MIXED


def test_strange_texts_are_shown_as_they_are(open_page: Any, server: Running) -> None:
    page = open_page()
    fill(page, NASTY)
    assert shown_text(page) == NASTY
    assert page.locator(".text img").count() == 0
    # Positions are those of characters; a browser counts an emoji as two.
    (answer,) = server.ask("/explain", {"text": NASTY}).json()["answers"]
    words = page.locator(".text mark").all_text_contents()
    assert words and set(words) <= {word["word"] for word in answer["words"]}


def test_two_texts_are_compared(open_page: Any, server: Running) -> None:
    page = open_page()
    fill(page, TEXT)
    page.locator("#compare").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement === document.querySelectorAll('textarea')[1]")
    fill(page, MIXED, 1)
    first, second = (server.ask("/predict", {"text": text, "top_k": 2}).json()["answers"][0] for text in (TEXT, MIXED))
    label = first["label"]
    scores = [next(s["score"] for s in answer["scores"] if s["label"] == label) for answer in (first, second)]
    line = page.locator(".difference").nth(1).inner_text()
    assert f"The probability of {label} is {scores[1]:.3f}" in line
    assert f"{abs(scores[1] - scores[0]):.3f} than for the first text" in line
    page.locator("#compare").click()
    assert page.locator("article").nth(1).is_hidden()


def test_examples_models_and_the_report(open_page: Any, server: Running, problems: Problems) -> None:
    page = open_page()
    models = server.ask("/models").json()["models"]
    assert page.locator("#examples button").all_inner_texts() == models[0]["examples"]
    with page.expect_response(lambda response: response.url.endswith("/explain")):
        page.locator("#examples button").nth(1).click()
    assert page.locator("textarea").input_value() == models[0]["examples"][1]
    page.locator(".found").wait_for()
    before = page.locator(".answer").inner_text()
    with page.expect_response(lambda response: response.url.endswith("/explain")):
        page.locator("#model").select_option("other")
    page.wait_for_function("before => document.querySelector('.answer').innerText !== before", arg=before)
    assert page.locator("#report").get_attribute("href") == "/report/other"
    page.locator("#report").click()
    page.wait_for_load_state()
    assert page.title().endswith(": report")
    assert page.evaluate("origin") == "null", "the report is kept apart from the server"


def test_numbers_have_an_interval(open_page: Any, server: Running) -> None:
    page = open_page()
    page.locator("#model").select_option("price")
    fill(page, "a box of huge tea")
    facts = next(model for model in server.ask("/models").json()["models"] if model["name"] == "price")
    (expected,) = server.ask("/explain", {"text": "a box of huge tea", "model": "price"}).json()["answers"]
    score, low, high = (
        f"{expected[name]:.{facts['decimals']}f}".replace("-", "−") for name in ("score", "low", "high")
    )
    assert page.locator(".answer").inner_text() == f"{score} {expected['label']}, 90 % between {low} and {high}"
    assert f", the predicted {expected['label']}" in page.locator(".sum").inner_text()
    assert page.locator(".bars li").count() == 0
    page.locator("#compare").click()
    fill(page, "a box of tiny tea", 1)
    assert f"{expected['label']} is −" in page.locator(".difference").nth(1).inner_text()


def test_what_is_wrong_is_said(open_page: Any, server: Running, problems: Problems) -> None:
    page = open_page()
    page.route("**/explain", lambda route: route.abort())
    page.locator("textarea").fill(TEXT)
    page.get_by_role("alert").wait_for()
    assert "cannot be reached" in page.get_by_role("alert").inner_text()
    page.unroute("**/explain")
    fill(page, f"{TEXT} Again.")
    assert page.get_by_role("alert").count() == 0
    # The browser itself says on the console that the request failed.
    assert all("net::ERR_FAILED" in problem for problem in problems)
    problems.clear()


def test_the_token_is_asked_for(browser: Browser, trained_run: Path) -> None:
    token = "a-token-of-many-letters"
    with running("--model", trained_run, env={"TEXTATTN_TOKEN": token}) as server:
        page = browser.new_page()
        page.goto(server.url)
        page.locator("#token").wait_for()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("This is not the token").wait_for()
        page.locator("#token").fill(token)
        page.keyboard.press("Enter")
        page.locator("textarea").wait_for()
        assert page.locator("#ask-token").is_hidden() and page.locator("#problem").is_hidden()
        fill(page, TEXT)
        with page.expect_download() as download:
            page.locator("#report").click()
        assert download.value.suggested_filename == "run-report.html"
        page.close()


@pytest.mark.parametrize("width", [380, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(open_page: Any, width: int, scheme: str) -> None:
    """No violation that axe-core finds, nothing wider than the screen, all within reach of the keyboard."""
    axe_library = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = open_page(width, scheme)
    fill(page, NASTY + " " + "a" * 300)
    page.locator("#compare").click()
    fill(page, MIXED, 1)
    page.locator("summary").first.click()
    # The script is let in by its own way; the page's policy allows none.
    found = axe_library.Axe().run(page).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName.toLowerCase()"))
    assert {"a", "textarea", "summary", "button", "compare", "report", "model"} <= reached


def test_grades_and_a_linear_model(open_page: Any, tmp_path: Path) -> None:
    """The sum says what it is for every grade, and there is no attention where there is no network."""
    lines = [f"{' '.join(['great'] * grade + ['awful'] * (2 - grade) + ['film'])},{grade}" for grade in range(3)] * 40
    (tmp_path / "stars.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    done = cli(
        "train", tmp_path / "stars.csv", "--linear-only", "task=ordinal", "output.plots=false",
        "output.audit_examples=20", f"output.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.code == 0, done.err
    ends = {
        "awful awful film": ", the log-odds of 0",
        "great awful film": ", the mean log-odds of each step up to 1 and of stopping there",
        "great great film": ", the mean log-odds of each step up to 2",
    }
    with running("--model", f"stars={tmp_path / 'run'}") as found:
        page = open_page(url=found.url)
        for text, end in ends.items():
            fill(page, text)
            assert page.locator(".sum").inner_text().partition(", which calibration")[0].endswith(end)
        rows = page.locator("tbody tr").first
        assert rows.locator("td").count() == 2
        assert page.locator("thead th").last.is_hidden()
        (served,) = found.ask("/models").json()["models"]
        assert served["methods"] == ["contributions"]
        refused = found.ask("/explain", {"text": "great film", "method": "attention"})
        assert refused.status == 422
