"""How much is being worked on: places for studies, and the bytes that their files hold. What does not fit is asked to come again."""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hilum.serving.problems import Problem

_FORGETS = 0.1  # the share of the newest in the mean time of an answer


class Places:
    """For one thread, that of the server's loop. places: studies at one time; held: bytes of all their files together."""

    def __init__(self, places: int, held: int):
        self.places, self.most_held = places, held
        self.taken, self.held, self._mean = 0, 0, 0.5

    @contextmanager
    def one(self) -> Iterator["Place"]:
        """A place while the block runs, and its `work` after it. Raises Problem (queue-full), with the seconds after which one may be free, at once."""
        if self.taken >= self.places:
            raise self._full()
        place, before = Place(self), time.monotonic()
        self.taken += 1
        try:
            yield place
            self._mean += _FORGETS * (time.monotonic() - before - self._mean)
        finally:
            if place.work is None:
                self._free(place)
            else:
                place.work.add_done_callback(lambda work: self._ended(place, work))

    def _ended(self, place: "Place", work: "asyncio.Future[Any]") -> None:
        if not work.cancelled():
            work.exception()  # looked at, or it would be printed with what it quotes
        self._free(place)

    def _free(self, place: "Place") -> None:
        self.taken -= 1
        self.held -= place.size

    def _full(self) -> Problem:
        return Problem("queue-full", headers={"Retry-After": str(max(1, math.ceil(self._mean)))})


class Place:
    """What one request holds. work: what goes on for it though nobody waits any more; the place is free when that has ended."""

    def __init__(self, places: Places):
        self._places, self.size = places, 0
        self.work: asyncio.Future[Any] | None = None

    def hold(self, size: int) -> None:
        """Take so many bytes more. Raises Problem (queue-full) where all requests together would hold too much."""
        if self._places.held + size > self._places.most_held:
            raise self._places._full()
        self._places.held += size
        self.size += size
