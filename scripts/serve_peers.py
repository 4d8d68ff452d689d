"""What people write themselves: FastAPI handlers with one call of the model for each request. For bench.py.

    .venv/bin/python scripts/serve_peers.py plain runs/quickstart/TIME 8001
    .venv/bin/python scripts/serve_peers.py tf_idf runs/quickstart/TIME 8001

`plain` is the same model by `textattn.load`; `tf_idf` is TF-IDF of words and pairs with logistic regression, trained on
the bundled reviews, on which the run must have been trained too. Both run in uvicorn with uvloop and httptools.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

import textattn

CORPUS = Path(textattn.__file__).parent / "corpus" / "reviews"


class Question(BaseModel):
    text: str


class Answer(BaseModel):
    label: str
    score: float


def plain(run: str) -> FastAPI:
    """The same model."""
    app, model = FastAPI(), textattn.load(run)

    @app.post("/predict")
    def predict(question: Question) -> Answer:
        prediction = model.predict([question.text])[0]
        return Answer(label=prediction.label, score=prediction.score)

    @app.post("/explain")
    def explain(question: Question) -> dict[str, Any]:
        return dataclasses.asdict(model.explain([question.text])[0])

    return app


def tf_idf(_: str) -> FastAPI:
    """TF-IDF and logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = [json.loads(line) for line in (CORPUS / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression())
    model.fit([row["text"] for row in rows], [row["label"] for row in rows])
    app = FastAPI()

    @app.post("/predict")
    def predict(question: Question) -> Answer:
        scores = model.predict_proba([question.text])[0]
        best = scores.argmax()
        return Answer(label=str(model.classes_[best]), score=float(scores[best]))

    return app


if __name__ == "__main__":
    kind, run, port = sys.argv[1:]
    app = {"plain": plain, "tf_idf": tf_idf}[kind](run)
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False)
