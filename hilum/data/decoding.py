"""Many image files decoded at once, handed back in order; what cannot be read comes back as a reason."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from hilum.errors import MachineError, UnreadableImage
from hilum.pixels.read import read_pixels
from hilum.pixels.spec import PixelSpec

Decoded = np.ndarray[Any, np.dtype[np.uint8]] | str  # (size, size), or why not
_AHEAD = 16  # files per thread that are under way at most: bounds memory


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_all(paths: Sequence[str], spec: PixelSpec, workers: int | None = None) -> Iterator[Decoded]:
    """Each file as uint8 (size, size), or the reason why it cannot be read, in the order of `paths`.

    workers: threads, by default one per core. Reading, decoding and resizing run outside Python's lock, so threads share
    the work as well as processes would, start at once, and ask nothing of the caller's script.
    """
    count = workers or cores()
    waiting: deque[Future[Decoded]] = deque()
    with _one_thread_each(), ThreadPoolExecutor(count) as pool:
        try:
            for path in paths:
                waiting.append(pool.submit(_decode, path, spec))
                if len(waiting) >= count * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decode(path: str, spec: PixelSpec) -> Decoded:
    try:
        return read_pixels(path, spec)
    except UnreadableImage as error:
        return error.what
    except MachineError:  # no decoder process: no file's fault
        raise
    except Exception as error:  # one strange file must not end a night's work
        return f"{type(error).__name__} while decoding: {error}"


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """OpenCV's own threads off while ours run, and back as they were."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
