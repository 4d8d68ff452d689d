// Answers texts with a model of textattn in Node: npm install onnxruntime-node tokenizers
//
//     node predict_onnx.mjs MODEL "one text" "another"
//
// MODEL is a run directory, or the folder into which a bundle was unpacked. Each text becomes one line of JSON.

import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import ort from "onnxruntime-node";
import { Tokenizer } from "tokenizers";

const BATCH_SIZE = 32;
// What a grade that is d grades off costs: d to the power of this.
const ORDINAL_EXPONENT = 0.65;

const sum = (values) => values.reduce((a, b) => a + b, 0);
const best = (values) => values.reduce((top, value, i) => (value > values[top] ? i : top), 0);
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

export class Model {
  static async load(folder) {
    const read = (name) => JSON.parse(readFileSync(path.join(folder, name), "utf8"));
    const model = new Model();
    model.config = read("config.json");
    model.rules = read("tokenizer_config.json");
    if (["composition", "formula"].includes(model.rules.kind)) {
      throw new Error("a model of chemical formulas, which needs textattn's reader of formulas");
    }
    const tokenizer = read("tokenizer.json");
    const special = tokenizer.added_tokens.filter((token) => token.special);
    // "[PAD]" in a text is a word like any other, so the tokens that stand for themselves there are taken out.
    tokenizer.added_tokens = tokenizer.added_tokens.filter((token) => !token.special);
    tokenizer.truncation = tokenizer.padding = null;
    model.tokenizer = Tokenizer.fromString(JSON.stringify(tokenizer));
    const idOf = (name) => special.find((token) => token.content === name)?.id ?? model.tokenizer.tokenToId(name);
    model.padId = idOf(model.rules.pad_token);
    model.unkId = idOf(model.rules.unk_token);
    model.session = await ort.InferenceSession.create(path.join(folder, "model.onnx"));
    model.labels = Object.keys(model.config.id2label).map((_, i) => model.config.id2label[i]);
    return model;
  }

  // Several text columns are one string with tabs between them.
  async tokenIds(text) {
    const encoding = await this.tokenizer.encode(text, null, { addSpecialTokens: false });
    let ids = encoding.getIds();
    const longest = this.rules.model_max_length;
    if (ids.length > longest) {
      const head = { head: longest, tail: 0, head_tail: Math.ceil(longest / 2) }[this.rules.truncation];
      ids = [...ids.slice(0, head), ...ids.slice(ids.length - (longest - head))];
    }
    // Nothing in a text is padding, and a text without a token is one unknown token.
    ids = ids.map((id) => (id === this.padId ? this.unkId : id));
    return ids.length > 0 ? ids : [this.unkId];
  }

  // For each text, its logits after calibration.
  async logits(texts) {
    const found = [];
    for (let first = 0; first < texts.length; first += BATCH_SIZE) {
      const rows = await Promise.all(texts.slice(first, first + BATCH_SIZE).map((text) => this.tokenIds(text)));
      const shape = [rows.length, Math.max(...rows.map((row) => row.length))];
      const inputIds = new BigInt64Array(shape[0] * shape[1]).fill(BigInt(this.padId));
      const attentionMask = new BigInt64Array(shape[0] * shape[1]);
      rows.forEach((row, i) => {
        inputIds.set(row.map(BigInt), i * shape[1]);
        attentionMask.fill(1n, i * shape[1], i * shape[1] + row.length);
      });
      const inputs = {
        input_ids: new ort.Tensor("int64", inputIds, shape),
        attention_mask: new ort.Tensor("int64", attentionMask, shape),
      };
      const { logits } = await this.session.run(inputs, ["logits"]);
      const size = logits.dims[1];
      rows.forEach((_, i) => found.push([...logits.data.slice(i * size, (i + 1) * size)]));
    }
    return found.map((row) => row.map((logit) => logit / this.config.temperature));
  }

  async predict(texts) {
    return (await this.logits(texts)).map((logits) => this.answer(logits));
  }

  answer(logits) {
    const { output, target, thresholds } = this.config;
    if (output === "number") {
      const number = Math.min(Math.max(target.mean + target.std * logits[0], target.minimum), target.maximum);
      const [low, high] = target.margin === null ? [null, null] : [number - target.margin, number + target.margin];
      return { number, low, high };
    }
    const p = this.probabilities(logits);
    let top = best(p);
    if (output === "ordinal") {
      top = best(p.map((_, grade) => -sum(p.map((q, i) => q * Math.abs(i - grade) ** ORDINAL_EXPONENT))));
    }
    const given = thresholds === null ? [top] : [...p.keys()].filter((i) => p[i] >= thresholds[i]);
    return {
      label: this.labels[top],
      score: p[top],
      labels: given.map((i) => this.labels[i]),
      scores: Object.fromEntries(p.map((q, i) => [this.labels[i], q])),
    };
  }

  // One for each label.
  probabilities(logits) {
    if (this.config.output === "softmax") {
      const largest = Math.max(...logits);
      const e = logits.map((x) => Math.exp(x - largest));
      return e.map((x) => x / sum(e));
    }
    const p = logits.map(sigmoid);
    if (this.config.output === "ordinal") {
      // p is the probability of a higher grade, given that this one is reached.
      let reached = 1;
      const grades = p.map((higher) => {
        const grade = reached * (1 - higher);
        reached *= higher;
        return grade;
      });
      return [...grades, reached];
    }
    return p.length < this.labels.length ? [1 - p[0], p[0]] : p;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [folder, ...texts] = process.argv.slice(2);
  for (const answer of await (await Model.load(folder)).predict(texts)) console.log(JSON.stringify(answer));
}
