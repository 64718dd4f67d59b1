"""From decoded samples to a picture: colour, spare bits, padding, greys, mirroring, square pixels."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from hilum.pixels.codes import refused
from hilum.pixels.dicom.codecs import Samples, Stored
from hilum.pixels.dicom.grey_scale import Counts, Table
from hilum.pixels.dicom.provenance import Grey8

Index = np.ndarray[
    Any, np.dtype[np.unsignedinteger[Any]]
]  # (H, W), place of each value in a table that starts at the smallest
Mask = np.ndarray[Any, np.dtype[np.bool_]]  # (H, W)

COLOUR_SPREAD = 2  # levels of 255 that red, green and blue of a grey picture may lie apart
ASPECTS = (0.25, 4.0)  # height over width of a pixel beyond which the header is not believed
_BLOCK = 1 << 20  # pixels at a time: look-ups make 8 bytes of each


def grey_of_colour(samples: Samples, photometric: str) -> Grey8:
    """Luma of a colour picture that is grey in truth; (H, W, 3) as stored. Raises UnreadableImage (colour-image)."""
    grey = np.empty(samples.shape[:2], dtype=np.uint8)
    for rows in _blocks(grey):
        colours = samples[rows].astype(np.float32)
        if photometric.startswith("YBR_FULL"):  # the others are RGB once they are decompressed (PS3.3 C.7.6.3.1.2)
            y, blue, red = colours[..., 0], colours[..., 1] - 128, colours[..., 2] - 128
            colours = np.stack((y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue), axis=-1)
            colours = np.clip(np.rint(colours), 0, 255)
        if np.abs(colours[..., :2] - colours[..., 1:]).max() > COLOUR_SPREAD:
            raise refused("colour-image")
        grey[rows] = np.rint(colours @ np.array((0.299, 0.587, 0.114), dtype=np.float32))
    return grey


def index_of(stored: Stored) -> Index:
    """The stored bits without what lies in the spare ones (old overlays), signed values shifted so that 0 is the smallest."""
    index = stored.samples & ((1 << stored.bits) - 1)
    return np.asarray(index ^ (1 << (stored.bits - 1)) if stored.signed else index)


def padding_of(index: Index, stored: Stored, low: int, high: int) -> Mask:
    """The pixels of padding: those of the values low to high in areas that touch the border.

    Inside the picture the same value may be a legal grey. Values are compared before rescale (PS3.3 C.7.5.1.1.2).
    """
    lowest = -(1 << (stored.bits - 1)) if stored.signed else 0
    if lowest <= low and high < lowest + (1 << stored.bits):
        mask = (index >= low - lowest) & (index <= high - lowest)
    else:  # padding beyond the stored bits is found in the allocated ones
        mask = stored.samples == low % (1 << 8 * stored.samples.dtype.itemsize)
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    if not any(edge.any() for edge in edges):
        return np.zeros_like(mask)
    _, areas = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    areas = np.asarray(areas)
    outside = np.zeros(int(areas.max()) + 1, dtype=bool)
    for edge in (areas[0], areas[-1], areas[:, 0], areas[:, -1]):
        outside[edge] = True
    outside[0] = False
    return np.asarray(outside[areas])


def counts_of(index: Index, bits: int, padding: Mask | None) -> Counts:
    """How many pixels have each value, (2^bits,), padding left out."""
    counts = np.zeros(1 << bits, dtype=np.int64)
    for rows in _blocks(index):
        counted = index[rows] if padding is None else index[rows][~padding[rows]]
        counts += np.bincount(counted.ravel(), minlength=len(counts))
    return counts


def looked_up(index: Index, table: Table, padding: Mask | None, aspect: float | None) -> Grey8:
    """The picture, uint8 = round(255 * grey), padding black.

    aspect: height over width of a pixel. The finer side is shrunk until pixels are square, before anything is rounded.
    """
    out: np.ndarray[Any, np.dtype[Any]]
    if aspect is None:
        levels = np.rint(255 * table).astype(np.uint8)
        out = np.empty(index.shape, dtype=np.uint8)
    else:
        levels = table.astype(np.float32)
        out = np.empty(index.shape, dtype=np.float32)
    for rows in _blocks(index):
        out[rows] = levels[index[rows]]
    if padding is not None:
        out[padding] = 0
    if aspect is None:
        return out
    height, width = index.shape
    size = (round(width / aspect), height) if aspect > 1 else (width, round(height * aspect))
    shrunk = cv2.resize(out, (max(1, size[0]), max(1, size[1])), interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(255 * np.clip(shrunk, 0, 1)), dtype=np.uint8)


def polarity_is_doubtful(image: Grey8) -> bool:
    """Whether the upper corners (air beside the neck) are brighter than the middle (mediastinum, spine)."""
    height, width = image.shape
    side, top = max(1, width // 8), max(1, height // 8)
    corners = np.concatenate((image[:top, :side].ravel(), image[:top, -side:].ravel()))
    middle = image[height // 3 : 2 * height // 3 + 1, 2 * width // 5 : 3 * width // 5 + 1]
    return bool(np.median(corners) > np.median(middle))


def _blocks(image: Samples) -> Iterator[slice]:
    """Slices of rows, of about _BLOCK pixels each."""
    step = max(1, _BLOCK // image.shape[1])
    return (slice(start, start + step) for start in range(0, image.shape[0], step))
