// An explanation as elements. Whatever comes from texts and models is set as text, never as markup.
const SHADES = 4;
const LEAST_SHADED = 0.15;

export function element(name, { className = "", text = "" } = {}, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

// A model that predicts numbers gives an interval with them.
export const isNumber = (answer) => answer.low !== undefined;
const isSigned = (answer) => answer.method !== "attention";

export function signed(weight, digits = 2) {
  return `${weight < 0 ? "−" : "+"}${Math.abs(weight).toFixed(digits)}`;
}

export function fixed(value, digits) {
  const written = Math.abs(value).toFixed(digits);
  return value < 0 && Number(written) ? `−${written}` : written;
}

const number = (answer, weight) => (isSigned(answer) ? signed(weight) : weight.toFixed(3));

// From −1 to 1 for each word: against the label or for it; of attention what is over an equal share.
function strengths(answer) {
  const weights = answer.words.map((word) => word.weight);
  const top = Math.max(...weights.map(Math.abs), 0) || 1;
  const floor = isSigned(answer) ? 0 : 1 / Math.max(weights.length, 1);
  return answer.words.map((word) => {
    if (!word.word.trim()) return 0;
    return (isSigned(answer) ? word.weight : Math.max(word.weight - floor, 0)) / top;
  });
}

// The text with its strong words marked, each with its number. Positions count characters, not UTF-16 units.
export function markedText(answer) {
  const characters = Array.from(answer.text);
  const slice = (start, end) => characters.slice(start, end).join("");
  const parts = [];
  let position = 0;
  const strong = strengths(answer);
  answer.words.forEach((word, i) => {
    if (Math.abs(strong[i]) < LEAST_SHADED || word.start < position) return;
    parts.push(slice(position, word.start));
    const level = Math.min(Math.floor(Math.abs(strong[i]) * SHADES) + 1, SHADES);
    const hue = !isSigned(answer) ? "a" : strong[i] > 0 ? "p" : "c";
    const mark = element("mark", { className: hue + level, text: slice(word.start, word.end) });
    const weight = element("small", { text: number(answer, word.weight) });
    parts.push(element("span", { className: "word" }, mark, weight));
    position = word.end;
  });
  parts.push(slice(position, characters.length));
  return parts;
}

// How the parts lead to the answer, in one line.
export function sumLine(answer, decimals) {
  const sum = answer.sum;
  if (!sum) return "";
  const digits = decimals ?? 2;
  const plain = (value) => fixed(value, digits);
  const added = (value) => `${value < 0 ? "−" : "+"} ${Math.abs(value).toFixed(digits)}`;
  const ngrams = sum.ngrams === null ? "" : ` ${added(sum.ngrams)} n-grams`;
  const parts = `${plain(sum.bias)} bias ${added(sum.words)} words${ngrams} = ${plain(sum.answer)}`;
  if (isNumber(answer)) {
    const isLimited = Math.abs(sum.answer - answer.score) >= 0.5 * 10 ** -digits;
    const limit = isLimited ? `, limited to ${plain(answer.score)} by the range of the training data` : "";
    return `${parts}, the predicted ${answer.target}${limit}`;
  }
  if (sum.steps) {
    const stop = sum.steps === "up and stop" ? " and of stopping there" : "";
    return `${parts}, the mean log-odds of each step up to ${answer.target}${stop}`;
  }
  if (!sum.is_log_odds) return `${parts}, the logit of ${answer.target} less the mean of the others`;
  const calibration = sum.temperature === 1 ? "" : `, which calibration divides by ${sum.temperature.toFixed(2)}`;
  return `${parts}, the log-odds of ${answer.target}${calibration}`;
}

export function bars(scores) {
  return scores.map(({ label, score }) => {
    const bar = element("i");
    bar.style.width = `${100 * score}%`;
    const track = element("span", { className: "track" }, bar);
    track.setAttribute("aria-hidden", "true");
    return element(
      "li", {}, element("bdi", { text: label }), track, element("span", { className: "amount", text: score.toFixed(3) }),
    );
  });
}

// Not where the attention counts for nothing: the model is linear alone, or its network adds nothing.
export const showsAttention = (answer) => !answer.sum || answer.sum.ngrams === null || answer.sum.words !== 0;

export function wordRows(answer) {
  const words = answer.words.filter((word) => word.word.trim());
  words.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  return words.map((word) => element(
    "tr", {}, element("td", {}, element("bdi", { text: word.word })),
    element("td", { className: "amount", text: number(answer, word.weight) }),
    ...(showsAttention(answer) ? [element("td", { className: "amount", text: word.attention.toFixed(3) })] : []),
  ));
}

// The labels that are given, each with its probability; or the number with its interval.
export function given(answer, decimals) {
  if (isNumber(answer)) {
    const show = (value) => fixed(value, decimals);
    const interval = answer.low === null ? "" : `, 90 % between ${show(answer.low)} and ${show(answer.high)}`;
    return [show(answer.score), " ", element("small", {}, element("bdi", { text: answer.label }), interval)];
  }
  const labels = answer.labels ?? [{ label: answer.label, score: answer.score }];
  if (!labels.length) return ["no label"];
  return labels.flatMap(({ label, score }, i) => [
    i ? ", " : "", element("bdi", { text: label }), " ", element("small", { text: score.toFixed(3) }),
  ]);
}
