"""OpenCV's image decoder, listened to.

Where the inside of a JPEG is damaged, libjpeg fills the rest of the picture with grey, says so on the process's standard
error and reports success. So standard error is led aside while a file is decoded: what the decoders write there becomes
the reason of a refusal, and whatever else was written meanwhile is passed on.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any

import cv2
import numpy as np

from hilum.errors import UnreadableImage

_DAMAGE = b"Corrupt JPEG data"
_OURS = (_DAMAGE, b"libpng ", b"Premature end of JPEG", b"Invalid SOS")
_STDERR = 2
_lock = threading.Lock()  # standard error is one for all threads; many files at once are the work of processes
_aside: dict[int, FileIO] = {}  # by process id: a fork must not share its parent's

if hasattr(
    os, "register_at_fork"
):  # no fork in the middle of a decode: the child would keep the lock and the led-aside error
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def decode(data: bytes, flag: int) -> np.ndarray[Any, np.dtype[Any]]:
    """The picture that OpenCV makes of the bytes with an imread flag. Raises UnreadableImage where it makes none or a damaged one."""
    said: list[bytes] = []
    try:
        with _lock, _listening(said):
            image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flag)
    except cv2.error as error:
        raise damaged("the decoder gives up on this file") from error
    reason = b" ".join(said).decode("utf-8", "replace").strip()
    if image is None:
        raise damaged("the compressed pixels are broken" + (f" ({reason})" if reason else ""))
    if any(line.startswith(_DAMAGE) for line in said):
        raise damaged(f"the picture is damaged inside ({reason})")
    return np.asarray(image)


def damaged(what: str) -> UnreadableImage:
    """The error for a file that is not whole."""
    return UnreadableImage(what, do="copy or download the file again")


@contextmanager
def _listening(said: list[bytes]) -> Iterator[None]:
    """Fill `said` with the lines that image decoders write to standard error."""
    try:
        before, aside = os.dup(_STDERR), _aside_file()
    except OSError:  # a process without standard error, or without a place for temporary files
        yield
        return
    try:
        os.dup2(aside.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(before, _STDERR)
    finally:
        os.close(before)
    if aside.seek(0, os.SEEK_END):
        aside.seek(0)
        lines = aside.read().splitlines(keepends=True)
        aside.seek(0)
        aside.truncate()
        said += [line.strip() for line in lines if line.startswith(_OURS)]
        if others := b"".join(line for line in lines if not line.startswith(_OURS)):
            os.write(_STDERR, others)


def _aside_file() -> FileIO:
    process = os.getpid()
    if process not in _aside:
        _aside.clear()
        _aside[process] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - kept for the life of the process
    return _aside[process]
