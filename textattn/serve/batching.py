"""Requests that come together are computed together: while a batch computes, the next one gathers.

Nothing waits for a fixed time. A request that comes alone is computed at once; under load, batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import ClientDisconnect

from textattn.serve.refusal import Refusal
from textattn.serve.settings import Limits
from textattn.training.processors import available_processors

# Texts and characters of a batch. More would keep others waiting without being faster.
BATCH_TEXTS = 48
BATCH_CHARACTERS = 200_000
# Texts that a request gives to a batch before others have their turn.
TURN = 16


class Work(Protocol):
    """What is computed of texts. Requests whose work is equal share batches."""

    @property
    def kind(self) -> str:
        """Its name in the metrics."""
        ...

    def run(self, texts: Sequence[str]) -> Sequence[Any]:
        """A result for each text."""
        ...


@dataclass(eq=False)
class _Asked:
    """A request that waits."""

    texts: Sequence[str]
    future: asyncio.Future[list[Any]]
    is_gone: Callable[[], bool]
    results: list[Any] = field(default_factory=list)
    given: int = 0
    """Texts that were given to a batch."""


@dataclass
class _Part:
    """Some texts of a request, in a batch."""

    asked: _Asked
    texts: Sequence[str]
    start: int


@dataclass(frozen=True)
class Batch:
    """A batch that was computed, for the metrics."""

    work: Work
    texts: Sequence[str]
    results: Sequence[Any]
    seconds: float


class Batcher:
    """Gives texts to worker threads in batches. Lives on the event loop; only `Work.run` runs in the threads."""

    def __init__(self, limits: Limits, on_batch: Callable[[Batch], None], workers: int | None = None) -> None:
        """Starts no thread before there is work.

        Args:
            limits: how much may wait, and how long.
            on_batch: called in the thread after each batch that was computed without an error.
            workers: threads; by default one processor is left to the event loop.
        """
        self.limits = limits
        self.waiting_texts = 0
        self.waiting_characters = 0
        self._on_batch = on_batch
        self._free = workers or max(1, available_processors() - 1)
        self._pool = ThreadPoolExecutor(self._free, thread_name_prefix="batch")
        self._waiting: OrderedDict[Work, deque[_Asked]] = OrderedDict()

    async def ask(self, work: Work, texts: Sequence[str], is_gone: Callable[[], bool] = lambda: False) -> list[Any]:
        """The results for texts, in their order.

        Args:
            is_gone: tells whether nobody waits for them any more.

        Raises:
            ClientDisconnect: `is_gone` said so.
            Refusal: too much is waiting already (503), or the time is over (504).
            TextattnError: what `work.run` raised.
        """
        characters = sum(map(len, texts))
        too_many = self.waiting_texts + len(texts) > self.limits.max_waiting_texts
        if self.waiting_texts and (too_many or self.waiting_characters + characters > self.limits.max_waiting_bytes):
            raise Refusal(503, "too many requests are waiting; try again later", headers={"Retry-After": "1"})
        asked = _Asked(texts, asyncio.get_running_loop().create_future(), is_gone, [None] * len(texts))
        self._waiting.setdefault(work, deque()).append(asked)
        self.waiting_texts += len(texts)
        self.waiting_characters += characters
        self._start()
        limit = asyncio.get_running_loop().call_later(self.limits.seconds, self._give_up, asked.future)
        try:
            return await asked.future
        finally:
            limit.cancel()
            self.waiting_texts -= len(texts)
            self.waiting_characters -= characters

    def _give_up(self, future: asyncio.Future[list[Any]]) -> None:
        if not future.done():
            hint = "send fewer or shorter texts, or start the server with a larger --timeout"
            future.set_exception(Refusal(504, f"no answer within {self.limits.seconds:g} seconds", hint))

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Starts batches while there are a free thread and texts."""
        while self._free and (found := self._next()) is not None:
            work, parts = found
            self._free -= 1
            running = asyncio.get_running_loop().run_in_executor(self._pool, self._compute, work, parts)
            running.add_done_callback(lambda done, parts=parts: self._done(parts, done))  # type: ignore[misc]

    def _next(self) -> tuple[Work, list[_Part]] | None:
        """The next batch: of the work that has waited longest, with texts of its requests in turn."""
        while self._waiting:
            work, queue = next(iter(self._waiting.items()))
            parts = self._gather(queue)
            if queue:
                self._waiting.move_to_end(work)
            else:
                del self._waiting[work]
            if parts:
                return work, parts
        return None

    @staticmethod
    def _gather(queue: deque[_Asked]) -> list[_Part]:
        parts: list[_Part] = []
        texts = characters = 0
        while queue and texts < BATCH_TEXTS and characters < BATCH_CHARACTERS:
            asked = queue.popleft()
            if asked.future.done():  # its time is over
                continue
            if asked.is_gone():
                asked.future.set_exception(ClientDisconnect())
                continue
            start = asked.given
            while asked.given < len(asked.texts) and asked.given - start < min(TURN, BATCH_TEXTS - texts):
                characters += len(asked.texts[asked.given])
                asked.given += 1
                if characters >= BATCH_CHARACTERS:
                    break
            parts.append(_Part(asked, asked.texts[start : asked.given], start))
            texts += asked.given - start
            if asked.given < len(asked.texts):
                queue.append(asked)
        return parts

    def _compute(self, work: Work, parts: Sequence[_Part]) -> list[Sequence[Any] | Exception]:
        """In a thread: for each part its results, or the error of computing them."""
        texts = [text for part in parts for text in part.texts]
        started = time.perf_counter()
        try:
            results = work.run(texts)
            self._on_batch(Batch(work, texts, results, time.perf_counter() - started))
        except Exception as error:
            # What is wrong with one request must not fail the others.
            return [error] if len(parts) == 1 else [self._compute(work, [part])[0] for part in parts]
        found, start = [], 0
        for part in parts:
            found.append(results[start : start + len(part.texts)])
            start += len(part.texts)
        return list(found)

    def _done(self, parts: Sequence[_Part], done: asyncio.Future[list[Sequence[Any] | Exception]]) -> None:
        self._free += 1
        if done.cancelled():  # the server has closed
            return
        for part, results in zip(parts, done.result(), strict=True):
            asked = part.asked
            if asked.future.done():
                continue
            if isinstance(results, Exception):
                asked.future.set_exception(results)
                continue
            asked.results[part.start : part.start + len(part.texts)] = results
            # Parts of a request may be computed at the same time, and end in any order.
            if asked.given == len(asked.texts) and all(result is not None for result in asked.results):
                asked.future.set_result(asked.results)
        self._start()
