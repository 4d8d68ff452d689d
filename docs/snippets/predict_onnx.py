"""Answers texts with a model of textattn, but without textattn: ONNX Runtime, tokenizers and numpy are enough.

python predict_onnx.py MODEL "one text" "another"

MODEL is a run directory, or the folder into which a bundle was unpacked. Each text becomes one line of JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BATCH_SIZE = 32
# What a grade that is d grades off costs: d to the power of this.
ORDINAL_EXPONENT = 0.65


class Model:
    def __init__(self, folder):
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.rules = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if self.rules["kind"] in ("composition", "formula"):
            raise SystemExit("a model of chemical formulas, which needs textattn's reader of formulas")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # "[PAD]" in a text is a word like any other.
        self.tokenizer.encode_special_tokens = True
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.pad_id = self.tokenizer.token_to_id(self.rules["pad_token"])
        self.unk_id = self.tokenizer.token_to_id(self.rules["unk_token"])
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        self.labels = [self.config["id2label"][str(i)] for i in range(len(self.config["id2label"]))]

    def token_ids(self, text):
        """Several text columns are one string with tabs between them."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        longest = self.rules["model_max_length"]
        if len(ids) > longest:
            head = {"head": longest, "tail": 0, "head_tail": longest - longest // 2}[self.rules["truncation"]]
            ids = ids[:head] + ids[len(ids) - (longest - head) :]
        # Nothing in a text is padding, and a text without a token is one unknown token.
        return [self.unk_id if i == self.pad_id else i for i in ids] or [self.unk_id]

    def logits(self, texts):
        """(texts, num_outputs) after calibration."""
        found = []
        for first in range(0, len(texts), BATCH_SIZE):
            rows = [self.token_ids(text) for text in texts[first : first + BATCH_SIZE]]
            shape = len(rows), max(map(len, rows))
            input_ids = np.full(shape, self.pad_id, np.int64)
            attention_mask = np.zeros(shape, np.int64)
            for i, row in enumerate(rows):
                input_ids[i, : len(row)] = row
                attention_mask[i, : len(row)] = 1
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
            found.append(self.session.run(["logits"], inputs)[0])
        return np.concatenate(found).astype(np.float64) / self.config["temperature"]

    def predict(self, texts):
        return [self.answer(logits) for logits in self.logits(texts)]

    def answer(self, logits):
        if self.config["output"] == "number":
            target = self.config["target"]
            number = float(np.clip(target["mean"] + target["std"] * logits[0], target["minimum"], target["maximum"]))
            margin = target["margin"]
            interval = (None, None) if margin is None else (number - margin, number + margin)
            return {"number": number, "low": interval[0], "high": interval[1]}
        probabilities = self.probabilities(logits)
        top = int(probabilities.argmax())
        if self.config["output"] == "ordinal":
            grades = np.arange(len(self.labels))
            top = int((np.abs(grades[:, None] - grades) ** ORDINAL_EXPONENT @ probabilities).argmin())
        limits = self.config["thresholds"]
        given = [top] if limits is None else np.flatnonzero(probabilities >= limits)
        return {
            "label": self.labels[top],
            "score": float(probabilities[top]),
            "labels": [self.labels[i] for i in given],
            "scores": dict(zip(self.labels, probabilities.tolist(), strict=True)),
        }

    def probabilities(self, logits):
        """One for each label."""
        if self.config["output"] == "softmax":
            e = np.exp(logits - logits.max())
            return e / e.sum()
        p = 1 / (1 + np.exp(-logits))
        if self.config["output"] == "ordinal":  # p is that of a higher grade, given that this one is reached
            return np.append(1, np.cumprod(p)) * np.append(1 - p, 1)
        return np.array([1 - p[0], p[0]]) if len(p) < len(self.labels) else p


if __name__ == "__main__":
    for answer in Model(sys.argv[1]).predict(sys.argv[2:]):
        print(json.dumps(answer, ensure_ascii=False))
