"""One model serves many threads, and a damaged one is refused in each."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import damaged_models
import pytest
from damaged_models import BAD, GOOD, RUNTIMES

import textattn
from textattn.errors import InputError

# pytest looks for fixtures among the names of a file.
run, model = damaged_models.run, damaged_models.model


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_many_threads_get_what_one_gets(run: Path, runtime: str) -> None:
    model = textattn.load(run, runtime=runtime)
    generator = random.Random(0)
    vocabulary = [*GOOD, *BAD, "food", "unknown", "😀"]
    lists = [
        [" ".join(generator.choices(vocabulary, k=generator.randrange(1, 30))) for _ in range(40)] for _ in range(8)
    ]

    def answers(texts: list[str]) -> Any:
        return (model.predict(texts), model.explain(texts), model.embed(texts).tolist(), model.predict(texts[0]))

    expected = [answers(texts) for texts in lists]
    assert len({str(answer) for answer in expected}) == len(lists)
    together = threading.Barrier(len(lists))

    def many(texts: list[str]) -> list[Any]:
        together.wait(30)
        return [answers(texts) for _ in range(4)]

    with ThreadPoolExecutor(len(lists)) as pool:
        found = list(pool.map(many, lists))
    assert found == [[answer] * 4 for answer in expected]


def test_a_damaged_model_is_refused_in_every_thread(model: Path) -> None:
    (model / "tokenizer.json").write_bytes(b"{")

    def load(_: int) -> str:
        with pytest.raises(InputError) as caught:
            textattn.load(model)
        return caught.value.message

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load, range(16)))) == 1
