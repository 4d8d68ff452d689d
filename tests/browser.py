"""A headless Chromium that loads a page, acts on it and reports: fixtures for tests of what a browser shows.

A script is appended to the page; what it returns is read from the document that Chromium prints.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

# The words on the command line of Debian, of Ubuntu, and of Google's own packages.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--virtual-time-budget=5000", "--dump-dom"),
]
# Before anything of the page, so that nothing is missed.
WATCH = """<script>
window.problems = [];
addEventListener("error", (event) => problems.push("error: " + event.message));
addEventListener("unhandledrejection", (event) => problems.push("rejection: " + event.reason));
addEventListener("securitypolicyviolation", (event) => problems.push("violation: " + event.violatedDirective));
for (const name of ["error", "warn"]) console[name] = (...words) => problems.push("console: " + words.join(" "));
</script>"""
# What scripts below use, and how they report. Nothing shows, so that measures are those of the page.
TOOLS = """
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const seen = (element) => element.checkVisibility({ contentVisibilityAuto: false });
const set = (control, value) => {
  control.value = value;
  control.dispatchEvent(new Event("input", { bubbles: true }));
};
const option = (id, text) => [...byId(id).options].find((o) => o.text.startsWith(text)).value;
const choose = (method) => document.querySelector(`[name=method][value="${method}"]`).click();
const numbers = () => all("article").filter(seen).map((a) => Number(a.querySelector(".number").textContent));
// Else what is off the screen has no text and no size.
const renderAll = () => document.head.insertAdjacentHTML("beforeend",
  "<style>article { content-visibility: visible !important }</style>");
const wait = () => new Promise((resolve) => setTimeout(resolve, 50));
"""
REPORT = """<pre id="result" hidden></pre><script>
(async () => { %s
%s })().catch((error) => ({ failed: String(error.stack) })).then((found) => {
  found = { found, problems, requests: performance.getEntriesByType("resource").map((entry) => entry.name) };
  document.getElementById("result").textContent = encodeURIComponent(JSON.stringify(found));
});
</script>"""

# No window of Chromium is narrower; a frame is, and to its page it is the window.
LEAST_WIDTH = 500
FRAME = """<!doctype html><html><body><pre id="result" hidden></pre><script>
const frame = document.createElement("iframe");
[frame.width, frame.height, frame.srcdoc] = [%d, %d, %s];
frame.style.border = 0;
frame.onload = () => setInterval(() => {
  const inner = frame.contentDocument.getElementById("result").textContent;
  if (inner) document.getElementById("result").textContent = inner;
}, 50);
document.body.append(frame);
</script></body></html>"""

Browse = Callable[..., Any]


def as_script(text: str) -> str:
    """A string for a script, which it does not end."""
    return json.dumps(text).replace("<", "\\u003c")


@pytest.fixture(scope="session")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        message = "no chromium, chromium-browser or google-chrome on PATH (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture
def browse(chromium: str, tmp_path: Path) -> Browse:
    """Runs a script on a page and returns what it returns; any error, warning or request of the page is a failure."""

    def run(
        page: str,
        script: str,
        *,
        size: tuple[int, int] = (1200, 900),
        dark: bool = False,
        fragment: str = "",
        quiet: bool = True,
    ) -> Any:
        assert page.count("<head>") == 1 and page.count("</body>") >= 1
        page = page.replace("<head>", "<head>" + WATCH)
        before, after = page.rsplit("</body>", 1)
        page = before + REPORT % (TOOLS, script) + "</body>" + after
        if size[0] < LEAST_WIDTH:
            page = FRAME % (*size, as_script(page))
        file = tmp_path / "page.html"
        file.write_text(page, encoding="utf-8")
        done = subprocess.run(
            [
                *(chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size[0]},{size[1]}"),
                *(f"--blink-settings=preferredColorScheme={0 if dark else 1}", file.as_uri() + fragment),
            ],
            capture_output=True,
            timeout=120,
            check=False,
        )
        result = re.search(r'<pre id="result"[^>]*>([^<]*)</pre>', done.stdout.decode("utf-8"))
        assert result and result[1], done.stderr.decode("utf-8", "replace")[-2000:]
        report = json.loads(unquote(result[1]))
        assert "failed" not in (report["found"] or {}), report["found"]
        if not quiet:
            return report
        assert report["problems"] == [] and report["requests"] == []
        return report["found"]

    return run
