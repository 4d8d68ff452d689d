"""Trains and tests the linear peers as their documentation recommends. bench_peers.py runs it in their environment.

    python peer_models.py NAME DATA TEXT LABEL

Prints the accuracy on the test split as JSON. bench_peers.py measures the time of the whole process.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq


def fasttext(train: tuple[list[str], list[str]], test: tuple[list[str], list[str]], ngrams: int) -> float:
    """fastText with the preprocessing of its tutorial (lower case, punctuation split off) and five epochs."""
    import re

    import fasttext as library  # type: ignore[import-not-found]

    def clean(text: str) -> str:
        return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.txt")
        with path.open("w", encoding="utf-8") as file:
            # Shuffle, because fastText reads in order and would learn only the last label of a sorted file.
            rows = list(zip(*train, strict=True))
            random.Random(0).shuffle(rows)
            for text, label in rows:
                file.write(f"__label__{label} {clean(text)}\n")
        model = library.train_supervised(str(path), wordNgrams=ngrams, lr=0.5, epoch=5, verbose=0)
    found, _ = model.predict([clean(text) for text in test[0]])
    return _accuracy([labels[0].removeprefix("__label__") for labels in found], test[1])


def tf_idf(train: tuple[list[str], list[str]], test: tuple[list[str], list[str]]) -> float:
    """Logistic regression on TF-IDF of words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = LogisticRegression(C=10, solver="liblinear")
    model.fit(vectorizer.fit_transform(train[0]), train[1])
    return _accuracy(model.predict(vectorizer.transform(test[0])).tolist(), test[1])


def _accuracy(found: list[str], labels: list[str]) -> float:
    return sum(a == b for a, b in zip(found, labels, strict=True)) / len(labels)


def main() -> None:
    name, data, text, label = sys.argv[1:]

    def read(split: str) -> tuple[list[str], list[str]]:
        table = pq.read_table(Path(data, f"{split}.parquet"), columns=[text, label])
        return table[text].to_pylist(), [str(value) for value in table[label].to_pylist()]

    train, test = read("train"), read("test")
    if name == "tf_idf":
        accuracy = tf_idf(train, test)
    else:
        accuracy = fasttext(train, test, ngrams={"fasttext": 1, "fasttext_bigrams": 2}[name])
    print(json.dumps({"accuracy": accuracy}))


if __name__ == "__main__":
    main()
