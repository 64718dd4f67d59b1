"""A drawn image on disk: a PNG that carries its own boxes, written whole or not at all, and known again when it is there."""

import json
import os
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hilum.errors import MachineError
from hilum.sources.phantom.picture import Box

# Noise has no repetitions to find: without looking for them a file is no larger and coded in a third of the time.
_CODING = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
_KEYWORD = b"hilum-boxes\x00"
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"  # the last chunk of every PNG


def write(path: Path, picture: NDArray[np.uint8], boxes: dict[str, Box]) -> None:
    """Write a PNG beside its place and rename it there. Unlike atomic_path without a flush: what a power cut spoils is drawn again.

    The boxes stand in a text chunk, which every PNG reader passes over. Raises OSError.
    """
    done, coded = cv2.imencode(".png", picture, _CODING)
    if not done:
        raise MachineError("OpenCV could not code a PNG", where=path, do="check its installation")
    content = coded.tobytes()
    if not content.endswith(_END):
        raise MachineError("OpenCV coded a PNG without its end", where=path, do="check its installation")
    text = b"tEXt" + _KEYWORD + json.dumps(boxes).encode("ascii")
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(content[: -len(_END)] + chunk + _END)
        aside.replace(path)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def boxes_of(path: Path) -> dict[str, Box] | None:
    """The boxes of a complete image that `write` made; None where there is no such file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    start = content.rfind(b"tEXt" + _KEYWORD)
    if start < 0 or not content.endswith(_END):
        return None
    length = int.from_bytes(content[start - 4 : start], "big")
    text = content[start : start + 4 + length]
    if zlib.crc32(text).to_bytes(4, "big") != content[start + 4 + length : start + 8 + length]:
        return None
    found = json.loads(text[4 + len(_KEYWORD) :])
    return {name: (box[0], box[1], box[2], box[3]) for name, box in found.items()}
