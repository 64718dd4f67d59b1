"""Several isolated decoders side by side: a server's files wait for a free one, never for a broken one."""

import asyncio
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from hilum.errors import MachineError
from hilum.pixels.isolated.decoder import Decoder
from hilum.pixels.spec import PixelSpec
from hilum.serving.pictures import Picture, picture_of
from hilum.serving.problems import Problem


class Decoders:
    """`count` decoder processes and as many threads that wait for them. seen: told the seconds of each file."""

    def __init__(self, count: int, seen: Callable[[float], None] = lambda seconds: None):
        self._all = [Decoder() for _ in range(count)]
        self._free: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for decoder in self._all:
            self._free.put(decoder)
        self._threads, self._seen = ThreadPoolExecutor(count, "hilum-decoding"), seen

    @property
    def lost(self) -> int:
        """Processes that crashed, hung or talked nonsense so far."""
        return sum(sum(decoder.lost.values()) for decoder in self._all)

    async def start(self) -> None:
        """Have all processes ready. Raises MachineError."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, decoder.start) for decoder in self._all))

    async def alive(self) -> bool:
        """Whether the next file finds a decoder: all are at work, or a free one is there, started anew where it had died."""
        return self._free.empty() or await asyncio.get_running_loop().run_in_executor(self._threads, self._revived)

    async def pictures(
        self, files: Sequence[bytes], spec: PixelSpec, views: Sequence[str | None], *, show: bool
    ) -> list[Picture]:
        """The pictures of one study's files, in their order. Raises Problem: of the first file that cannot be read."""
        loop, asked = asyncio.get_running_loop(), list(enumerate(zip(files, views, strict=True)))
        found = await asyncio.gather(
            *(loop.run_in_executor(self._threads, self._one, data, index, spec, view, show) for index, (data, view) in asked),
            return_exceptions=True,
        )  # fmt: skip
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return [one for one in found if isinstance(one, Picture)]

    def close(self) -> None:
        """End the threads and the processes."""
        self._threads.shutdown()
        for decoder in self._all:
            decoder.close()

    def _revived(self) -> bool:
        try:
            decoder = self._free.get_nowait()
        except queue.Empty:
            return True
        try:
            decoder.start()
            return True
        except MachineError:
            return False
        finally:
            self._free.put(decoder)

    def _one(self, data: bytes, index: int, spec: PixelSpec, view: str | None, show: bool) -> Picture:
        decoder, before = self._free.get(), time.monotonic()
        try:
            return picture_of(data, index, decoder, spec, view=view, show=show)
        except MachineError:
            raise Problem("not-ready", "No decoder can be started.", headers={"Retry-After": "5"}) from None
        finally:
            self._free.put(decoder)
            self._seen(time.monotonic() - before)
