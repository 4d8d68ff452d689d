"""The report of a run as a browser shows it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from browser import Browse
from report_runs import NASTY


def test_a_cell_lists_its_texts_and_closes_again(browse: Browse, ticket_run: Path) -> None:
    table = pq.read_table(ticket_run / "predictions" / "test.parquet").to_pydict()
    found = browse(
        (ticket_run / "report.html").read_text(),
        """
        const state = () => all(".cell").filter(seen).map(
          (c) => [c.id, all("li", c).length, c.querySelector("p").textContent]);
        const button = (id) => document.querySelector(`[aria-controls="${id}"]`);
        const steps = { start: state(), expanded: all(".cell-of[aria-expanded=true]").length };
        const target = all(".cell-of").map((b) => b.getAttribute("aria-controls")).find((id) => id === "cell-1-1");
        button(target).click();
        steps.clicked = [state(), button(target).getAttribute("aria-expanded"), document.activeElement.id];
        button(target).click();
        steps.again = state();
        button("cell-0-0").click();
        dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
        steps.escaped = [state(), document.activeElement.getAttribute("aria-controls")];
        button("cell-0-0").click();
        steps.texts = all("#cell-0-0 .plain").map((e) => e.textContent);
        document.querySelector("#cell-0-0 .close").click();
        steps.closed = state();
        steps.numbers = all(".matrix .cell-of").map((b) => [b.getAttribute("aria-controls"), Number(b.textContent)]);
        return steps;
        """,
    )
    cells = {}
    for gold, given, text, score in zip(*(table[c] for c in ("label", "prediction", "text", "score")), strict=True):
        cells.setdefault((NASTY.index(gold), NASTY.index(given)), []).append((score, text))
    # The labels stand in the order of the model.
    order = sorted(range(3), key=lambda i: NASTY[i])
    named = {f"cell-{order.index(t)}-{order.index(g)}": rows for (t, g), rows in cells.items()}
    assert dict(found["numbers"]) == {name: len(rows) for name, rows in named.items()}
    ((opened, _, _),) = found["start"]
    wrong = {name: len(rows) for name, rows in named.items() if name[5] != name[7]}
    assert len(named[opened]) == max(wrong.values())
    assert found["expanded"] == 1
    (cell, count, said), *others = found["clicked"][0]
    assert (cell, count, others) == ("cell-1-1", min(12, len(named["cell-1-1"])), [])
    assert said.startswith(f"{len(named['cell-1-1'])} texts, the least sure first")
    assert found["clicked"][1:] == ["true", "cell-1-1"]
    assert found["again"] == []
    assert found["escaped"] == [[], "cell-0-0"]
    least_sure = sorted(named["cell-0-0"], key=lambda row: row[0])[: len(found["texts"])]
    assert [text for _, text in least_sure] == found["texts"]
    assert found["closed"] == []


def test_cells_of_several_labels(browse: Browse, tag_run: Path) -> None:
    found = browse(
        (tag_run / "report.html").read_text(),
        """
        const before = all(".cell").filter(seen).length;
        all("#labels .cell-of")[1].click();
        const [cell] = all(".cell").filter(seen);
        return [before, cell.querySelector("h3").textContent, all("li", cell).length];
        """,
    )
    assert found[0] == 0
    assert found[1].endswith("given wrongly")
    assert found[2] > 0


def test_errors_are_filtered(browse: Browse, ticket_run: Path) -> None:
    found = browse(
        (ticket_run / "report.html").read_text(),
        """
        const counts = () => [all("article").filter((a) => !a.hidden).length, byId("count").textContent];
        const steps = { start: counts() };
        const [, first] = byId("gold").options;
        set(byId("gold"), first.value);
        steps.gold = [counts(), Number(first.text.match(/\\((\\d+)\\)$/)[1])];
        steps.right = all("article").filter((a) => !a.hidden).every((a) => a.dataset.gold === first.value);
        set(byId("gold"), "");
        byId("suspect").click();
        steps.suspect = [counts()[0], all("article[data-suspect='1']").length];
        byId("suspect").click();
        set(byId("find"), "no such words");
        steps.none = [counts()[0], seen(document.querySelector(".none"))];
        return steps;
        """,
    )
    total = found["start"][0]
    assert found["start"][1] == f"{total} errors"
    (shown, said), expected = found["gold"]
    assert shown == expected < total
    assert said == f"{shown} of {total} errors"
    assert found["right"]
    assert found["suspect"][0] == found["suspect"][1] > 0
    assert found["none"] == [0, True]


@pytest.mark.parametrize("size", [(1200, 900), (380, 800)])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_window_and_all_can_be_read(
    browse: Browse, ticket_run: Path, tag_run: Path, size: tuple[int, int], dark: bool
) -> None:
    for run in (ticket_run, tag_run):
        found = browse(
            (run / "report.html").read_text(),
            """
            renderAll();
            const luminance = (color) => {
              const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((v) => {
                v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
              return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const contrast = (a, b) => {
              const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
              return (high + 0.05) / (low + 0.05);
            };
            const page = getComputedStyle(document.body).backgroundColor;
            const texts = all("p, li, td, th, dd, dt, figcaption, .good, .bad, svg text").filter(seen);
            const weak = texts.filter((e) => {
              const style = getComputedStyle(e);
              const color = e instanceof SVGElement ? style.fill : style.color;
              return contrast(color, page) < 4.5;
            }).map((e) => e.outerHTML.slice(0, 80));
            return [document.documentElement.scrollWidth, innerWidth, weak];
            """,
            size=size,
            dark=dark,
        )
        assert found[0] <= found[1]
        assert found[2] == []


def test_without_scripts_all_texts_are_there(browse: Browse, ticket_run: Path) -> None:
    page = (ticket_run / "report.html").read_text()
    noscript = page.split("<noscript>")[1].split("</noscript>")[0]
    shown = browse(
        page.replace("</head>", noscript + "</head>"),
        """
        const count = (selector) => all(selector).filter(seen).length;
        return [count(".cell"), all(".cell").length, count(".filters, .fold, .close")];
        """,
    )
    assert shown[0] == shown[1] > 1
    assert shown[2] == 0
