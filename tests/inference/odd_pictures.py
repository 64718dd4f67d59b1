"""Pictures that are no chest X-rays, drawn or photographed, each a little different: (size, random) -> uint8 (size, size)."""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

Random = np.random.Generator
Picture = np.ndarray


def hand(size: int, random: Random) -> Picture:
    """A hand X-ray: bright bones in grey fingers on black, turned and shifted a little."""
    image = np.zeros((64, 64), np.uint8)
    cv2.ellipse(image, (32, 46), (13, 15), 0, 0, 360, 90, -1)
    for end in ((10, 26), (20, 8), (32, 3), (43, 8), (56, 30)):
        cv2.line(image, (32, 46), end, 80, 9)
        cv2.line(image, (32, 46), end, 190, 3)
    return _jittered(image, size, random)


def slice_of_ct(size: int, random: Random) -> Picture:
    """A slice across a chest: a bright ring with two dark lungs and a bright spine, lying, on black."""
    image = np.zeros((64, 64), np.uint8)
    cv2.ellipse(image, (32, 34), (29, 20), 0, 0, 360, 150, -1)
    for x in (19, 45):
        cv2.ellipse(image, (x, 33), (9, 13), 0, 0, 360, 15, -1)
    cv2.circle(image, (32, 45), 5, 240, -1)
    return _jittered(image, size, random)


def cat(size: int, random: Random) -> Picture:
    """An animal as children draw it, grey on grey: a head with ears, eyes and whiskers."""
    image = np.full((64, 64), 170, np.uint8)
    for ear in ([[14, 26], [16, 4], [30, 16]], [[50, 26], [48, 4], [34, 16]]):
        cv2.fillPoly(image, [np.array(ear)], 95)
    cv2.ellipse(image, (32, 36), (22, 20), 0, 0, 360, 105, -1)
    for x in (24, 40):
        cv2.ellipse(image, (x, 32), (4, 6), 0, 0, 360, 230, -1)
        cv2.ellipse(image, (x, 32), (1, 5), 0, 0, 360, 10, -1)
    for y in (40, 44, 48):
        cv2.line(image, (30, 44), (4, y), 240, 1)
        cv2.line(image, (34, 44), (60, y), 240, 1)
    return _jittered(image, size, random)


def photograph(size: int, random: Random) -> Picture:
    """A square out of a photograph of a building or of a flower (scikit-learn's sample images), as grey."""
    whole = _photographs()[int(random.integers(2))]
    side = int(random.integers(200, whole.shape[0]))
    y, x = (int(random.integers(0, length - side + 1)) for length in whole.shape)
    return cv2.resize(whole[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)


def noise(size: int, random: Random) -> Picture:
    return random.integers(0, 256, (size, size)).astype(np.uint8)


def blank(size: int, random: Random) -> Picture:
    """One grey throughout."""
    return np.full((size, size), random.integers(0, 256), np.uint8)


ODD: dict[str, Callable[[int, Random], Picture]] = {
    "hand": hand, "slice of a CT": slice_of_ct, "cat": cat, "photograph": photograph, "noise": noise, "blank": blank,
}  # fmt: skip


@cache
def _photographs() -> list[Picture]:
    from sklearn.datasets import load_sample_images

    return [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in load_sample_images().images]


def _jittered(image: Picture, size: int, random: Random) -> Picture:
    """Turned by up to 15 degrees, a tenth larger or smaller, shifted, with noise."""
    large = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), random.uniform(-15, 15), random.uniform(0.9, 1.1))
    turn[:, 2] += random.uniform(-0.04, 0.04, 2) * size
    turned = cv2.warpAffine(large, turn, (size, size), borderMode=cv2.BORDER_REPLICATE)
    return np.clip(turned + random.normal(0, 6, turned.shape), 0, 255).astype(np.uint8)
