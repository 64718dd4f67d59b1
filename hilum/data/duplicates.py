"""Pictures that stand in a table more than once: equal pixels, and near-duplicates by perceptual hash and correlation.

Near-duplicates are told by a sketch of each picture: small, histogram equalised, blurred. So a copy is found again after
another encoding, size, tone or a shift of a pixel or two, while distinct radiographs stay apart, follow-ups of a patient
too (bench/near_duplicates.py measures both).
"""

import hashlib
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import cv2
import numpy as np

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Pairs = np.ndarray[Any, np.dtype[np.int64]]

_BANDS = (11, 11, 11, 11, 10, 10)  # bits; any three agree where at most three bits of 64 differ
_MOST_BITS = 3
_NEIGHBOURS = 32  # images compared with each in a bucket; keeps the search linear where many look alike
_STEP = 2.0  # grey levels that count as a step; less is noise
_CHUNK = 2048
_SIDE = 64  # pixels of what is equalised
SKETCH = (32, 32)  # of what is compared


def pixel_hash(image: np.ndarray[Any, Any]) -> bytes:
    """A digest of a picture's shape, type and values: equal for equal pixels, whatever the file."""
    digest = hashlib.blake2b(f"{image.shape} {image.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def sketches(images: Pixels) -> Pixels:
    """uint8 (n, 32, 32) of images (n, H, W): equalised at 64 px, so that tone has no say, and blurred, so that a pixel's shift has little."""
    made = np.empty((len(images), *SKETCH), dtype=np.uint8)
    for row, image in enumerate(images):
        small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        smooth = cv2.GaussianBlur(cv2.equalizeHist(small), (0, 0), 1.0)
        made[row] = cv2.resize(smooth, SKETCH, interpolation=cv2.INTER_AREA)
    return made


def dhash(images: Pixels) -> Hashes:
    """uint64 (n,) of images (n, H, W): a bit for each of 8 x 8 places where the picture grows brighter to the right."""
    hashes = np.empty(len(images), dtype=np.uint64)
    for row, image in enumerate(images):
        small = cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA).astype(np.float32)
        hashes[row] = np.packbits(np.diff(small, axis=1) > _STEP).view(np.uint64)[0]
    return hashes


def near_pairs(images: Pixels, owners: Sequence[str], *, correlation: float = 0.995) -> Pairs:
    """int64 (n, 2), sorted: rows of images (n, H, W) of different owners that are nearly the same; see `near_sketches`."""
    return near_sketches(sketches(images), owners, correlation=correlation)


def near_sketches(small: Pixels, owners: Sequence[str], *, correlation: float = 0.995) -> Pairs:
    """int64 (n, 2), sorted: rows of sketches (n, 32, 32) of different owners that correlate above `correlation`.

    Candidates share three of six bands of their hash and differ in at most 3 of 64 bits. In a bucket of more than 33
    look-alikes each image is compared with its 32 neighbours in the order of hashes, so the work grows as n log n. A
    sketch is 1 KB, all that has to be held of an image. A picture of one grey value is like no other.
    """
    found = _candidates(dhash(small), np.unique(np.asarray(owners), return_inverse=True)[1])
    kept = [
        part[_correlations(small[part[:, 0]], small[part[:, 1]]) > correlation]
        for part in (found[start : start + _CHUNK] for start in range(0, len(found), _CHUNK))
    ]
    return np.concatenate(kept) if kept else np.empty((0, 2), dtype=np.int64)


def _candidates(hashes: Hashes, owners: Pairs) -> Pairs:
    starts = np.cumsum((0, *_BANDS[:-1]))
    masks = [((1 << width) - 1) << int(start) for width, start in zip(_BANDS, starts)]
    found: list[Pairs] = [np.empty(0, dtype=np.int64)]
    for chosen in combinations(masks, 3):
        keys = hashes & np.uint64(sum(chosen))
        order = np.lexsort((owners, hashes, keys))
        for step in range(1, min(_NEIGHBOURS + 1, len(hashes))):
            one, other = order[:-step], order[step:]
            together = keys[one] == keys[other]
            if not together.any():
                break
            one, other = one[together], other[together]
            alike = np.bitwise_count(hashes[one] ^ hashes[other]) <= _MOST_BITS
            alike &= owners[one] != owners[other]
            one, other = one[alike], other[alike]
            found.append(np.minimum(one, other) * len(hashes) + np.maximum(one, other))
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // max(1, len(hashes)), codes % max(1, len(hashes))], axis=1)


def _correlations(one: Pixels, other: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 (n,): Pearson correlation of images with images; 0 where one of them has a single grey value."""
    a, b = (x.reshape(len(x), -1).astype(np.float32) for x in (one, other))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    told: np.ndarray[Any, np.dtype[np.float32]] = np.where(size > 0, (a * b).sum(axis=1) / np.maximum(size, 1e-6), 0.0)
    return told
