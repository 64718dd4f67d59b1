"""A grey picture of any size and depth as the square uint8 array that a model sees."""

from typing import Any

import cv2
import numpy as np

from hilum.pixels.raster import Grey
from hilum.pixels.spec import PixelSpec

# Depths that detectors have. A 16-bit PNG does not say how many of its bits are used, and PadChest's often hold 12.
DEPTHS = (8, 10, 12, 14, 16)

Square = np.ndarray[Any, np.dtype[np.uint8]]


def render(image: Grey, spec: PixelSpec) -> Square:
    """uint8 (size, size) of a picture (H, W) uint8 or uint16, in the order depth, tone, fit.

    Depth: 16-bit values are scaled so that the smallest depth of 8, 10, 12, 14 and 16 bits that holds the brightest pixel becomes 0..255.
    Tone: equalize_hist equalises the histogram of the whole picture; as_is and window leave it (a raster is windowed already).
    Fit: pad centres the whole picture on black, crop takes the centre square, stretch gives up the aspect.
    """
    eight = to_eight_bits(image)
    if spec.tone == "equalize_hist":
        eight = np.asarray(cv2.equalizeHist(eight), dtype=np.uint8)
    return _fitted(eight, spec)


def to_eight_bits(image: Grey) -> Square:
    """uint8 of a uint8 or uint16 picture, scaled by the depth it uses (see `render`)."""
    if image.dtype == np.uint8:
        return image
    used = int(image.max()).bit_length()
    depth = next(depth for depth in DEPTHS if depth >= used)
    return np.asarray(cv2.convertScaleAbs(image, alpha=255 / (2**depth - 1)), dtype=np.uint8)


def _fitted(image: Square, spec: PixelSpec) -> Square:
    size, (height, width) = spec.size, image.shape
    if spec.fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    if spec.fit != "pad" or height == width:
        return _resized(image, size, size)
    scale = size / max(height, width)
    small = _resized(image, max(1, round(height * scale)), max(1, round(width * scale)))
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


def _resized(image: Square, height: int, width: int) -> Square:
    if image.shape == (height, width):
        return np.ascontiguousarray(image)
    shrinks = height * width < image.shape[0] * image.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=way), dtype=np.uint8)
