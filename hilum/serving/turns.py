"""An engine that several threads ask: one call at a time, in turn, and none after its deadline."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hilum.inference.engines import Array, Engine, Reading, Views
from hilum.serving.problems import Problem


class Turns:
    """Whoever waits longest is next, so that one who asks again and again leaves room between two questions."""

    def __init__(self) -> None:
        self._next, self._now = threading.Lock(), threading.Lock()

    @contextmanager
    def one(self, until: float = math.inf) -> Iterator[None]:
        """A turn while the block runs. until: on the clock of time.monotonic(). Raises Problem (timeout) beyond that."""
        _take(self._next, until)
        try:
            _take(self._now, until)
        finally:
            self._next.release()
        try:
            yield
        finally:
            self._now.release()


def _take(lock: threading.Lock, until: float) -> None:
    left = until - time.monotonic()
    if left <= 0 or not lock.acquire(timeout=min(left, threading.TIMEOUT_MAX)):
        raise Problem("timeout", headers={"Retry-After": "5"})


class InTurn(Engine):
    """An engine each of whose calls takes a turn. until: as in `Turns.one`."""

    def __init__(self, engine: Engine, turns: Turns, until: float = math.inf):
        self.name, self.attends, self.labels = engine.name, engine.attends, engine.labels
        self.engine, self._turns, self._until = engine, turns, until

    def asked(self, labels: Array) -> "InTurn":
        return InTurn(self.engine.asked(labels), self._turns, self._until)

    def _encode(self, images: Array, view: Views) -> Array:
        with self._turns.one(self._until):
            return self.engine.encode(images, view)

    def _answer(self, labels: Array | None = None, **inputs: Any) -> Reading:
        """labels: those that the engine holds."""
        with self._turns.one(self._until):
            return self.engine.read(**inputs)
