// The page: asks the server while somebody types, and shows what it says.
import { bars, element, fixed, given, isNumber, markedText, showsAttention, sumLine, wordRows } from "./drawing.js";

const DELAY = 150; // milliseconds without a key before the server is asked
const MOST_BARS = 10;
const TOKEN = "textattn-token";
const byId = (id) => document.getElementById(id);
const panels = [];
let models = [];
let model;

class Refused extends Error {
  constructor(status, { message, hint }) {
    super(hint ? `${message}\n${hint}` : message);
    this.status = status;
  }
}

function headers(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function ask(path, body, signal) {
  const options = body === undefined
    ? { headers: headers() }
    : { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) };
  const response = await fetch(path, { ...options, signal });
  const value = await response.json().catch(() => ({ error: { message: `status ${response.status}` } }));
  if (!response.ok) throw new Refused(response.status, value.error);
  return value;
}

function tell(error) {
  const needsToken = error instanceof Refused && error.status === 401;
  const asked = byId("ask-token");
  asked.hidden = !needsToken;
  if (needsToken) byId("token").focus();
  const wrong = needsToken && sessionStorage.getItem(TOKEN) !== null;
  const message = error instanceof Refused ? error.message : "The server cannot be reached. Is it still running?";
  showProblem(needsToken ? (wrong ? "This is not the token of the server." : "") : message);
}

function showProblem(message) {
  byId("problem").hidden = !message;
  byId("problem").textContent = message;
}

class Panel {
  constructor(title) {
    this.root = byId("panel").content.firstElementChild.cloneNode(true);
    this.root.querySelector("h2").textContent = title;
    this.find = (selector) => this.root.querySelector(selector);
    this.answer = null;
    byId("texts").append(this.root);
    panels.push(this);
  }

  // A text area for each text column of the model; what was typed stays.
  setColumns(columns) {
    const before = this.values;
    const fields = columns.map((column, i) => {
      const area = element("textarea");
      area.maxLength = 100_000;
      area.value = before[i] ?? "";
      area.placeholder = "Type or paste a text";
      area.addEventListener("input", () => this.changed());
      const name = columns.length > 1 ? column : this.find("h2").textContent;
      return element("label", { text: name }, area);
    });
    this.find(".inputs").replaceChildren(...fields);
    this.find("h2").hidden = columns.length < 2;
    this.columns = columns;
  }

  get values() {
    return [...this.root.querySelectorAll("textarea")].map((area) => area.value);
  }

  fill(text) {
    const parts = this.columns.length > 1 ? text.split("\t") : [text];
    this.root.querySelectorAll("textarea").forEach((area, i) => { area.value = parts[i] ?? ""; });
    this.changed(0);
  }

  changed(delay = DELAY) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.update(), delay);
  }

  async update() {
    this.running?.abort();
    const values = this.values;
    if (!values.some((value) => value.trim())) {
      this.answer = null;
      this.find(".found").hidden = true;
      compareAnswers();
      return;
    }
    const running = this.running = new AbortController();
    this.find(".found").setAttribute("aria-busy", "true");
    const text = values.length > 1 ? Object.fromEntries(this.columns.map((c, i) => [c, values[i]])) : values[0];
    try {
      const { answers } = await ask("/explain", { text, model: model.name, top_k: MOST_BARS }, running.signal);
      showProblem("");
      byId("ask-token").hidden = true;
      this.show(answers[0]);
    } catch (error) {
      if (error.name !== "AbortError") tell(error);
    } finally {
      if (this.running === running) this.find(".found").removeAttribute("aria-busy");
    }
  }

  show(answer) {
    this.answer = answer;
    this.find(".answer").replaceChildren(...given(answer, model.decimals));
    this.find(".bars").replaceChildren(...bars(answer.scores ?? []));
    this.find(".why").replaceChildren(
      ...(answer.method === "attention" ? ["Where it looked"] : ["Why ", element("bdi", { text: isNumber(answer) ? "this number" : answer.target }), "?"]),
    );
    this.find(".text").replaceChildren(...markedText(answer));
    this.find(".sum").textContent = sumLine(answer, model.decimals);
    this.find("tbody").replaceChildren(...wordRows(answer));
    this.find("thead th:last-child").hidden = !showsAttention(answer);
    this.find(".notes").hidden = !answer.truncated;
    this.find(".notes").textContent = answer.truncated ? "The text is longer than the model reads; a part was left out." : "";
    this.find(".found").hidden = false;
    byId("legend").hidden = false;
    byId("verdict").textContent = answer.verdict ?? "How far they can be trusted was not measured for this model.";
    compareAnswers();
  }
}

// In the second panel: how the probability of the first text's label has changed.
function compareAnswers() {
  if (panels.length < 2) return;
  const [first, second] = panels;
  const line = second.find(".difference");
  const label = first.answer?.target;
  const score = (answer) => {
    if (answer && isNumber(answer)) return answer.score;
    return answer?.scores?.find((entry) => entry.label === label)?.score;
  };
  const [before, after] = [score(first.answer), score(second.answer)];
  line.hidden = before === undefined || after === undefined || !second.root.checkVisibility();
  if (!line.hidden) {
    const digits = model.decimals ?? 3;
    const change = (after - before).toFixed(digits);
    const than = Number(change) === 0
      ? "as for the first text"
      : `${change < 0 ? "less" : "more"} by ${change.replace("-", "")} than for the first text`;
    line.replaceChildren(
      isNumber(first.answer) ? "" : "The probability of ", element("bdi", { text: label }),
      ` is ${fixed(after, digits)}, ${than}.`,
    );
  }
}

function choose(name) {
  model = models.find((each) => each.name === name) ?? models[0];
  const kind = model.decimals === null ? `${model.labels.length} labels` : `predicts ${model.labels[0]}`;
  byId("facts").textContent = `${models.length > 1 ? "" : `${model.name}: `}${kind}, ${model.summary}`;
  byId("report").hidden = !model.report;
  byId("report").href = `/report/${encodeURIComponent(model.name)}`;
  const examples = model.examples.map((text) => {
    const button = element("button", { text: text.replaceAll("\t", " · ") });
    button.type = "button";
    button.title = text;
    button.addEventListener("click", () => panels[0].fill(text));
    return element("li", {}, button);
  });
  byId("examples").hidden = !examples.length;
  byId("examples").querySelector("ul").replaceChildren(...examples);
  for (const panel of panels) {
    panel.setColumns(model.text_columns);
    panel.update();
  }
}

async function start() {
  try {
    ({ models } = await ask("/models"));
  } catch (error) {
    tell(error);
    return;
  }
  byId("ask-token").hidden = true;
  showProblem("");
  byId("model").replaceChildren(...models.map(({ name }) => element("option", { text: name })));
  byId("choice").hidden = models.length < 2;
  if (!panels.length) new Panel("Text");
  choose(byId("model").value);
}

byId("model").addEventListener("change", () => choose(byId("model").value));
byId("compare").addEventListener("click", () => {
  if (!model) return;
  if (panels.length < 2) new Panel("Second text").setColumns(model.text_columns);
  const second = panels[1].root;
  const shows = byId("compare").getAttribute("aria-expanded") === "false";
  second.hidden = !shows;
  byId("compare").setAttribute("aria-expanded", String(shows));
  byId("compare").textContent = shows ? "Leave out the second text" : "Compare with a second text";
  if (shows) second.querySelector("textarea").focus();
  compareAnswers();
});
byId("ask-token").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, byId("token").value.trim());
  start();
});
byId("report").addEventListener("click", async (event) => {
  if (!sessionStorage.getItem(TOKEN)) return;
  // A link cannot carry the token, so that the report is fetched and saved.
  event.preventDefault();
  const response = await fetch(byId("report").href, { headers: headers() });
  if (!response.ok) return;
  const link = element("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = `${model.name}-report.html`;
  link.click();
  URL.revokeObjectURL(link.href);
});
start();
