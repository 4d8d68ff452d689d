"""Texts that wait are computed together, in turn, and each request gets its own results or its own error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from textattn.errors import ConfigError

pytest.importorskip("fastapi", reason="needs the extra serve")
from starlette.requests import ClientDisconnect

from textattn.serve.batching import BATCH_TEXTS, TURN, Batch, Batcher
from textattn.serve.refusal import Refusal
from textattn.serve.settings import Limits


@dataclass(eq=False)
class Held:
    """Work that waits until it may go on, and keeps what it was given."""

    kind: str = "held"
    batches: list[list[str]] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)

    def run(self, texts: Sequence[str]) -> list[str]:
        self.batches.append(list(texts))
        assert self.go.wait(10)
        if any(text.startswith("bad") for text in texts):
            raise ConfigError("a bad text")
        return [text.upper() for text in texts]


def batcher(on_batch: list[Batch], workers: int = 1, **limits: Any) -> Batcher:
    return Batcher(Limits(**limits), on_batch.append, workers)


async def settled(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


def test_one_that_comes_alone_is_computed_at_once_and_the_others_together() -> None:
    async def run() -> None:
        work, done = Held(), []
        each = batcher(done)
        first = asyncio.ensure_future(each.ask(work, ["first"]))
        await settled(lambda: work.batches)
        others = [asyncio.ensure_future(each.ask(work, [f"t{i}"])) for i in range(10)]
        await asyncio.sleep(0.05)
        assert work.batches == [["first"]] and each.waiting_texts == 11
        work.go.set()
        assert await first == ["FIRST"]
        assert [await other for other in others] == [[f"T{i}"] for i in range(10)]
        assert work.batches[1:] == [[f"t{i}" for i in range(10)]]
        assert [len(batch.texts) for batch in done] == [1, 10]
        assert each.waiting_texts == each.waiting_characters == 0

    asyncio.run(run())


@pytest.mark.parametrize("workers", [1, 3])
def test_a_large_request_leaves_room_for_small_ones(workers: int) -> None:
    async def run() -> None:
        work = Held()
        each = batcher([], workers)
        large = [f"l{i}" for i in range(20 * BATCH_TEXTS)]
        waiting = asyncio.ensure_future(each.ask(work, large))
        await settled(lambda: len(work.batches) == workers)
        small = asyncio.ensure_future(each.ask(work, ["small"]))
        await asyncio.sleep(0.02)
        work.go.set()
        assert await small == ["SMALL"]
        assert not waiting.done()
        assert await waiting == [text.upper() for text in large]
        place = next(i for i, batch in enumerate(work.batches) if "small" in batch)
        assert place <= 2 * workers
        assert max(map(len, work.batches)) <= BATCH_TEXTS
        assert len(work.batches[place]) > TURN

    asyncio.run(run())


def test_different_work_has_its_turn() -> None:
    async def run() -> None:
        one, other = Held(), Held()
        each = batcher([])
        many = asyncio.ensure_future(each.ask(one, [str(i) for i in range(10 * BATCH_TEXTS)]))
        await settled(lambda: one.batches)
        few = asyncio.ensure_future(each.ask(other, ["few"]))
        await asyncio.sleep(0.02)
        other.go.set()
        one.go.set()
        assert await few == ["FEW"]
        assert not many.done()
        await many

    asyncio.run(run())


def test_an_error_is_that_of_its_request() -> None:
    async def run() -> None:
        work = Held()
        each = batcher([])
        first = asyncio.ensure_future(each.ask(work, ["first"]))
        await settled(lambda: work.batches)
        texts = ["a", "bad", "b", "bad too", "c"]
        asked = [asyncio.ensure_future(each.ask(work, [text])) for text in texts]
        await asyncio.sleep(0.02)
        work.go.set()
        await first
        found = await asyncio.gather(*asked, return_exceptions=True)
        for text, result in zip(texts, found, strict=True):
            assert isinstance(result, ConfigError) if text.startswith("bad") else result == [text.upper()]

    asyncio.run(run())


def test_what_takes_too_long_or_is_too_much_is_refused() -> None:
    async def run() -> None:
        work = Held()
        each = batcher([], seconds=1, max_waiting_texts=5)
        first = asyncio.ensure_future(each.ask(work, ["a", "b", "c"]))
        await settled(lambda: work.batches)
        queued = asyncio.ensure_future(each.ask(work, ["d"]))
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="too many requests") as refused:
            await each.ask(work, ["e", "f"])
        assert refused.value.status == 503 and refused.value.headers == {"Retry-After": "1"}
        for late in (first, queued):
            with pytest.raises(Refusal, match=r"no answer within 1 second"):
                await late
        assert each.waiting_texts == 0
        work.go.set()
        assert await each.ask(work, ["g"]) == ["G"]
        assert work.batches == [["a", "b", "c"], ["g"]], "what nobody waits for is not computed"

    asyncio.run(run())


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def run() -> None:
        work, gone = Held(), False
        each = batcher([])
        first = asyncio.ensure_future(each.ask(work, ["first"]))
        await settled(lambda: work.batches)
        left = asyncio.ensure_future(each.ask(work, ["left"] * 100, lambda: gone))
        stays = asyncio.ensure_future(each.ask(work, ["stays"], lambda: False))
        await asyncio.sleep(0)
        gone = True
        work.go.set()
        assert await first == ["FIRST"] and await stays == ["STAYS"]
        with pytest.raises(ClientDisconnect):
            await left
        assert work.batches == [["first"], ["stays"]]

    asyncio.run(run())
