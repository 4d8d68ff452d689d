"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const plain = (text) => text.normalize("NFKC").toLowerCase();

  // The texts of one cell at a time.
  const buttons = all(".cell-of");
  const openCell = (button) => {
    for (const other of buttons) {
      const open = other === button;
      other.setAttribute("aria-expanded", open);
      byId(other.getAttribute("aria-controls")).hidden = !open;
    }
    if (button) {
      const cell = byId(button.getAttribute("aria-controls"));
      cell.focus({ preventScroll: true });
      cell.scrollIntoView({ block: "nearest" });
    }
  };
  const openButton = () => buttons.find((button) => button.getAttribute("aria-expanded") === "true");
  const closeCell = () => {
    const button = openButton();
    openCell(null);
    if (button) button.focus();
  };
  addEventListener("keydown", (event) => { if (event.key === "Escape") closeCell(); });

  document.addEventListener("click", (event) => {
    const fold = event.target.closest(".fold");
    if (fold) fold.setAttribute("aria-expanded", fold.getAttribute("aria-expanded") === "false");
    const button = event.target.closest(".cell-of");
    if (button) button === openButton() ? closeCell() : openCell(button);
    if (event.target.closest(".close")) closeCell();
  });

  const articles = all("article");
  const filters = ["gold", "given", "suspect", "find"].map(byId).filter(Boolean);
  if (!filters.length) return;
  const matches = (article, { id, type, value, checked }) => {
    if (type === "checkbox") return !checked || article.dataset.suspect === "1";
    if (!value) return true;
    if (id === "find") return plain(article.querySelector(".text").textContent).includes(plain(value));
    return article.dataset[id].split(" ").includes(value);
  };
  document.addEventListener("input", (event) => {
    if (!filters.includes(event.target)) return;
    let count = 0;
    for (const article of articles) {
      article.hidden = !filters.every((filter) => matches(article, filter));
      count += !article.hidden;
    }
    byId("count").textContent = (count === articles.length ? "" : count + " of ") + articles.length + " errors";
    document.querySelector(".none").hidden = count > 0;
  });
})();
