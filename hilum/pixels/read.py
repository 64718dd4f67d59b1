"""One door for pixels: any image file as one grey picture, bright is dense, and rendered as a pixel spec says."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from hilum.errors import UnreadableImage
from hilum.pixels.raster import JPEG_MAGIC, PIXEL_LIMIT, PNG_MAGIC, file_bytes, read_jpeg, read_png
from hilum.pixels.spec import PixelSpec

# First bytes -> reader. The bytes decide, not the name of the file.
READERS: dict[bytes, Callable[..., np.ndarray]] = {PNG_MAGIC: read_png, JPEG_MAGIC: read_jpeg}


def read_image(path: str | Path, *, at_least: int | None = None, pixel_limit: int = PIXEL_LIMIT) -> np.ndarray:
    """The picture of a file as grey (H, W), uint8, or uint16 over its full range.

    at_least: pixels that the shorter side must keep; a big JPEG may then be decoded smaller.
    pixel_limit: width x height above which the header alone is reason to refuse.
    Raises UnreadableImage with the path, the reason and what to do; it never hands out a picture that was made up.
    """
    data = file_bytes(path)
    for magic, reader in READERS.items():
        if data.startswith(magic):
            return reader(data, path, at_least=at_least, pixel_limit=pixel_limit)
    if not data:
        raise UnreadableImage("the file is empty", where=path, do="copy or export it again, or leave it out")
    if data[128:132] == b"DICM":
        raise UnreadableImage("DICOM files are not read yet", where=path, do="export it as PNG")
    raise UnreadableImage(
        "this is neither PNG nor JPEG, whatever its name says", where=path, do="export it as PNG or JPEG"
    )


def render(image: np.ndarray, spec: PixelSpec) -> np.ndarray:
    """uint8 (size, size) of a grey picture (H, W), uint8 or full-range uint16.

    Tone is applied before the border of `pad` is added, so that the border has no say in it.
    """
    height, width = image.shape
    sides = {"pad": max(height, width), "crop": min(height, width)}
    if spec.fit == "stretch":
        new = (spec.size, spec.size)
    else:
        scale = spec.size / sides[spec.fit]
        new = (max(1, round(width * scale)), max(1, round(height * scale)))
    if new != (width, height):
        shrinks = new[0] < width or new[1] < height
        image = cv2.resize(image, new, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257
    if spec.tone == "equalize_hist":
        image = cv2.equalizeHist(image)
    return _square(image, spec.size)


def read_pixels(path: str | Path, spec: PixelSpec, *, pixel_limit: int = PIXEL_LIMIT) -> np.ndarray:
    """uint8 (size, size): a file read and rendered. Raises UnreadableImage."""
    return render(read_image(path, at_least=spec.size, pixel_limit=pixel_limit), spec)


def _square(image: np.ndarray, size: int) -> np.ndarray:
    """The image centred in a square: cut where it is larger, black where it is smaller."""
    height, width = image.shape
    if (height, width) == (size, size):
        return image
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    inner = image[max(0, -top) : max(0, -top) + size, max(0, -left) : max(0, -left) + size]
    square[max(0, top) : max(0, top) + inner.shape[0], max(0, left) : max(0, left) + inner.shape[1]] = inner
    return square
