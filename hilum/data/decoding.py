"""Many image files decoded at once by several processes, handed back in order; what cannot be read comes back as a reason."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cv2
import numpy as np

from hilum.errors import HilumError, MachineError
from hilum.pixels.read import read_pixels
from hilum.pixels.spec import PixelSpec

Decoded = np.ndarray[Any, np.dtype[np.uint8]] | str  # (size, size), or why not
_CHUNK = 16  # files handed to a process at a time
_AHEAD = 4  # chunks per process that are under way at most: bounds memory


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_all(paths: Sequence[str], spec: PixelSpec, workers: int | None = None) -> Iterator[Decoded]:
    """Each file as uint8 (size, size), or the reason why it cannot be read, in the order of `paths`.

    workers: processes, by default one per core; 1, or only a few files, and no process is started.
    Raises MachineError where a process dies.
    """
    chunks = [list(paths[start : start + _CHUNK]) for start in range(0, len(paths), _CHUNK)]
    count = min(workers or cores(), len(chunks) // 2)  # a process takes as long to start as some chunks to decode
    if count <= 1:
        for path in paths:
            yield _decode(path, spec)
        return
    # Spawned: a fork would copy the caller's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_prepare) as pool:
        waiting: deque[tuple[list[str], Future[list[Decoded]]]] = deque()
        todo = iter(chunks)
        try:
            while True:
                while len(waiting) < count * _AHEAD and (chunk := next(todo, None)) is not None:
                    waiting.append((chunk, pool.submit(_decode_chunk, chunk, spec)))
                if not waiting:
                    return
                decoded = waiting[0][1].result()
                waiting.popleft()
                yield from decoded
        except BrokenProcessPool as error:
            raise MachineError(
                f"a decoding process died at or after {waiting[0][0][0]}",
                do="go on with workers=1, which keeps what is done and starts no process (a script that starts processes "
                "needs `if __name__ == '__main__':`)",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare() -> None:
    cv2.setNumThreads(1)  # in a worker only: the processes share the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides what an interrupt means


def _decode_chunk(paths: list[str], spec: PixelSpec) -> list[Decoded]:
    return [_decode(path, spec) for path in paths]


def _decode(path: str, spec: PixelSpec) -> Decoded:
    try:
        return read_pixels(path, spec)
    except HilumError as error:
        return error.what
    except Exception as error:  # one strange file must not end a night's work
        return f"{type(error).__name__} while decoding: {error}"
