"""Studies that wait for the model: few at a time, answered together, none for ever."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from hilum.serving.problems import Problem

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class _Waiting(NamedTuple):
    item: object
    future: "Future[object]"
    since: float


class MicroBatches(Generic[Asked, Answer]):
    """Gathers what comes within `wait` seconds, at most `size` at once, and has one thread answer it by `run`.

    run: items -> their answers, in order; an item's answer must not depend on the others. Where it fails for several, each is
    tried by itself, so that one that cannot be answered takes no other with it.
    most: how many may wait. seen: told (items, seconds that the first of them waited, seconds of the answer) of each batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Asked]], Sequence[Answer]],
        *,
        size: int = 8,
        wait: float = 0.005,
        most: int = 32,
        seen: Callable[[int, float, float], None] = lambda items, waited, took: None,
    ):
        self._run, self._size, self._wait, self._seen = run, size, wait, seen
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(most)
        self._thread = threading.Thread(target=self._work, name="hilum-answers", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many wait."""
        return self._queue.qsize()

    def submit(self, item: Asked) -> "Future[Answer]":
        """The answer to come. Raises Problem (queue-full) where too many wait."""
        future: Future[Answer] = Future()
        try:
            self._queue.put_nowait(_Waiting(item, future, time.monotonic()))  # type: ignore[arg-type]
        except queue.Full:
            raise Problem("queue-full", headers={"Retry-After": "1"}) from None
        return future

    def close(self) -> None:
        """Answer what waits, then end."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, until, last = [first], time.monotonic() + self._wait, False
            while len(batch) < self._size and not last:
                try:
                    more = self._queue.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                last = more is None
                batch += [more] if more is not None else []
            self._answer([one for one in batch if one.future.set_running_or_notify_cancel()])
            if last:
                return

    def _answer(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        before = time.monotonic()
        try:
            answers = self._run([one.item for one in batch])  # type: ignore[misc]
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for one in batch:
                self._answer([one])
            return
        for one, answer in zip(batch, answers, strict=True):
            one.future.set_result(answer)
        with suppress(Exception):  # whoever watches must not end the thread
            self._seen(len(batch), before - batch[0].since, time.monotonic() - before)
