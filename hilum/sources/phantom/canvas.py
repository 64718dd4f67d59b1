"""The drawing board: shapes given in unit coordinates (x to the right, y down, 0 to 1), arrays of any size out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Points = NDArray[np.float64]

_SHIFT = 4  # OpenCV takes points in 1/16 pixel
_FINEST = 2.0  # a blur wider than this many pixels is done on a smaller copy


@dataclass(frozen=True)
class Pose:
    """How this image was positioned: turn in degrees about the centre, scale, shift in units of the image side."""

    turn: float = 0.0
    scale: float = 1.0
    dx: float = 0.0
    dy: float = 0.0

    def apply(self, points: Points) -> Points:
        """(n, 2) unit coordinates of the patient to (n, 2) unit coordinates of the image."""
        matrix, shift = self._affine
        return points @ matrix + shift

    @cached_property
    def _affine(self) -> tuple[Points, Points]:
        angle = np.deg2rad(self.turn)
        cos, sin = self.scale * np.cos(angle), self.scale * np.sin(angle)
        matrix = np.array([[cos, sin], [-sin, cos]])
        return matrix, np.array([0.5 + self.dx, 0.5 + self.dy]) - np.array([0.5, 0.5]) @ matrix


class Canvas:
    """Draws on arrays of float32 (size, size); every position and length is in units of the image side."""

    def __init__(self, size: int, pose: Pose):
        self.size, self.pose = size, pose

    def blank(self) -> F32:
        """Zeros (size, size)."""
        return np.zeros((self.size, self.size), np.float32)

    def _pixels(self, points: Points) -> NDArray[np.int32]:
        placed = self.pose.apply(np.asarray(points, np.float64)) * self.size - 0.5
        return np.round(placed * (1 << _SHIFT)).astype(np.int32)

    def fill(self, outlines: Sequence[Points], blur: float = 0.0) -> F32:
        """1 inside any of the closed outlines, 0 outside, edges anti-aliased, then blurred by `blur`."""
        mask = np.zeros((self.size, self.size), np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [self._pixels(outline)], 255, cv2.LINE_AA, _SHIFT)
        return self.blur(_unit(mask), blur)

    def lines(
        self,
        paths: Sequence[Points] | Points,
        widths: Sequence[float] | float,
        levels: Sequence[float] | float = 1.0,
    ) -> F32:
        """Open lines, each `widths` wide and `levels` (0 to 1) strong; the later covers the earlier.

        A line thinner than one pixel is drawn one pixel wide and weaker by as much.
        """
        mask = np.zeros((self.size, self.size), np.uint8)
        count = len(paths)
        wide = [widths] * count if isinstance(widths, float) else widths
        strong = [levels] * count if isinstance(levels, float) else levels
        together = self._pixels(np.concatenate(list(paths)))  # all at once: one line alone is slow
        ends = list(accumulate(len(path) for path in paths))
        placed = [together[first:last] for first, last in zip([0, *ends], ends)]
        pens = []
        for width, level in zip(wide, strong, strict=True):
            pixels = width * self.size * self.pose.scale
            pens.append((max(1, round(pixels)), round(255 * level * min(1.0, pixels))))
        start = 0
        for end in range(1, count + 1):
            if end == count or pens[end] != pens[start]:
                thick, value = pens[start]
                cv2.polylines(mask, placed[start:end], False, value, thick, cv2.LINE_AA, _SHIFT)
                start = end
        return _unit(mask)

    def blur(self, image: F32, sigma: float) -> F32:
        """Gaussian blur of `sigma` (units of the image side); wide ones on a smaller copy, which nobody can tell."""
        pixels = sigma * self.size
        if pixels < 0.3:
            return image
        factor = int(pixels / _FINEST)
        if factor <= 1:
            return np.asarray(cv2.GaussianBlur(image, (0, 0), pixels), np.float32)
        side = max(4, -(-self.size // factor))
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), pixels * side / self.size)
        return np.asarray(cv2.resize(small, (self.size, self.size), interpolation=cv2.INTER_LINEAR), np.float32)

    def bump(
        self, x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0, soft: float = 0.15
    ) -> F32:
        """Thickness of an ellipsoid seen through, 1 at the centre and 0 at its edge; `soft` blurs it (of its radius)."""
        ry = rx if ry is None else ry
        cx, cy = (float(v) for v in self.pose.apply(np.array([[x, y]]))[0])
        rx, ry = max(rx * self.pose.scale, 1e-4), max(ry * self.pose.scale, 1e-4)
        reach = max(rx, ry) * (1 + 3 * soft) + 2 / self.size  # only this far from the centre is anything changed
        low = [min(max(int((v - reach) * self.size), 0), self.size) for v in (cy, cx)]
        high = [min(max(int((v + reach) * self.size) + 1, 0), self.size) for v in (cy, cx)]
        image = self.blank()
        if low[0] >= high[0] or low[1] >= high[1]:
            return image
        across, down = _grid(self.size)
        u, v = across[:, low[1] : high[1]] - np.float32(cx), down[low[0] : high[0]] - np.float32(cy)
        angle = math.radians(turn + self.pose.turn)
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        a, b = (cos * u + sin * v) / np.float32(rx), (cos * v - sin * u) / np.float32(ry)
        part = np.sqrt(np.maximum(1 - a * a - b * b, 0))
        pixels = soft * min(rx, ry) * self.size
        if pixels >= 0.3:
            part = cv2.GaussianBlur(part, (0, 0), pixels, borderType=cv2.BORDER_CONSTANT)
        image[low[0] : high[0], low[1] : high[1]] = part
        return image

    def cloud(self, x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0) -> F32:
        """A soft blob without an edge: exp(-(r / radius)^2), 1 at the centre. An upright one does not follow the pose's turn."""
        ry = rx if ry is None else ry
        cx, cy = (float(v) for v in self.pose.apply(np.array([[x, y]]))[0])
        rx, ry = max(rx * self.pose.scale, 1e-4), max(ry * self.pose.scale, 1e-4)
        across, down = _grid(self.size)
        u, v = across - np.float32(cx), down - np.float32(cy)
        if turn == 0:
            row, column = np.exp(-((u / np.float32(rx)) ** 2)), np.exp(-((v / np.float32(ry)) ** 2))
            return np.asarray(column * row, np.float32)
        angle = math.radians(turn + self.pose.turn)
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        a, b = (cos * u + sin * v) / np.float32(rx), (cos * v - sin * u) / np.float32(ry)
        return np.asarray(np.exp(-np.minimum(a * a + b * b, 30)), np.float32)

    def noise(self, rng: np.random.Generator, cells: int) -> F32:
        """A smooth random field, mean 0 and deviation about 1, with `cells` grains along a side."""
        field = rng.standard_normal((cells, cells), dtype=np.float32)
        return np.asarray(cv2.resize(field, (self.size, self.size), interpolation=cv2.INTER_CUBIC), np.float32)

    def rows(self) -> F32:
        """y of every pixel in the image's own unit coordinates, (size, 1)."""
        return _grid(self.size)[1]

    def columns(self) -> F32:
        """x of every pixel in the image's own unit coordinates, (1, size)."""
        return _grid(self.size)[0]


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[F32, F32]:
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size).astype(np.float32)
    return line[None, :], line[:, None]


def _unit(mask: NDArray[np.uint8]) -> F32:
    return np.multiply(mask, np.float32(1 / 255), dtype=np.float32)


@lru_cache(maxsize=64)
def _spline(controls: int, steps: int, closed: bool) -> Points:
    """The matrix (n, controls) that turns control points into a Catmull-Rom curve through them."""
    spans = controls if closed else controls - 1
    t = np.linspace(0, 1, steps, endpoint=False)
    basis = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1
    )
    matrix = np.zeros((spans * steps, controls))
    for span in range(spans):
        for k in range(4):
            index = span + k - 1
            index = index % controls if closed else min(max(index, 0), controls - 1)
            matrix[span * steps : (span + 1) * steps, index] += basis[:, k]
    return matrix


def smooth(controls: Sequence[tuple[float, float]] | Points, *, closed: bool = True, steps: int = 6) -> Points:
    """A smooth curve (n, 2) through the control points; a point named twice stays a corner."""
    points = np.asarray(controls, np.float64)
    return np.asarray(_spline(len(points), steps, closed) @ points, np.float64)
