"""One patient's chest as numbers: where its outlines run in the frontal and the lateral projection."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hilum.sources.phantom.canvas import Points, smooth
from hilum.sources.phantom.streams import stream

# Lateral wall of an average lung: height (0 apex, 1 costophrenic angle) and distance from the midline.
_WALL_A = (0.0, 0.04, 0.16, 0.33, 0.55, 0.76, 0.90, 1.0)
_WALL_X = (0.10, 0.19, 0.27, 0.335, 0.375, 0.398, 0.402, 0.396)

# Front and back wall on the lateral image: height and x.
_FRONT_A = (0.0, 0.14, 0.30, 0.48, 0.68, 1.0)
_FRONT_X = (0.42, 0.30, 0.23, 0.18, 0.155, 0.16)
_REAR_A = (0.0, 0.10, 0.25, 0.50, 0.75, 1.0)
_REAR_X = (0.60, 0.73, 0.80, 0.84, 0.84, 0.80)


def _between(x: float, xs: tuple[float, ...], ys: tuple[float, ...]) -> float:
    """Linear interpolation of one number, constant beyond the ends (np.interp takes several times as long)."""
    if x <= xs[0]:
        return ys[0]
    for k in range(1, len(xs)):
        if x <= xs[k]:
            return ys[k - 1] + (ys[k] - ys[k - 1]) * (x - xs[k - 1]) / (xs[k] - xs[k - 1])
    return ys[-1]


@dataclass(frozen=True)
class Chest:
    """The geometry of a chest, in units of the image side. Side is -1 for the patient's right (left in the picture).

    width:    half of the inner width of the thorax.          apex:  y of the lung apices.
    base:     y of the costophrenic angles, (right, left).    dome:  height of the diaphragm above them, (right, left).
    heart:    half widths of the heart, (right, left); both over `width` give the cardiothoracic ratio.
    upper:    half widths of the upper mediastinum, (right, left).      knob: radius of the aortic knob.
    unfolded: 0 a straight aorta .. 1 a tortuous one.        retrosternal: 0 clear .. 1 filled space behind the sternum.
    depth:    front-to-back scale.     kyphosis: forward bend of the spine.    habitus: 0 thin .. 1 obese.
    bone:     mineral content, 1 in the young.               airy: air content of the lungs, 1 normal, more when hyperinflated.
    stoop:    how far the upper spine leans forward.         globular: 0 a heart of the usual shape .. 1 a round one.
    curve:    how far the spine bends sideways at most, towards the left where positive.
    """

    sex: str
    age: float
    habitus: float
    width: float
    apex: float
    base: tuple[float, float]
    dome: tuple[float, float]
    heart: tuple[float, float]
    heart_y: float
    upper: tuple[float, float]
    knob: float
    unfolded: float
    depth: float
    kyphosis: float
    bone: float
    spine_turn: float
    rib_start: float
    rib_gap: float
    rib_slope: float
    clavicle_y: float
    breast: float
    marking: float
    texture: tuple[int, int]
    retrosternal: float = 0.0
    unfolded_lateral: float = 0.0
    upper_lateral: float = 0.0
    barrel: float = 0.0
    airy: float = 1.0
    magnified: float = 1.0
    stoop: float = 0.0
    globular: float = 0.0
    curve: float = 0.0

    @property
    def cardiothoracic_ratio(self) -> float:
        """Width of the heart over the inner width of the thorax, as measured on the image."""
        return (self.heart[0] + self.heart[1]) * self.magnified / (2 * self.width)

    def level(self, height: float, side: int) -> float:
        """y of a height in a lung: 0 at the apex, 1 at the costophrenic angle."""
        base = self.base[0 if side < 0 else 1]
        return self.apex + height * (base - self.apex)

    def wall(self, height: float) -> float:
        """Distance of the chest wall's inner side from the midline at a height (0 apex .. 1 costophrenic angle)."""
        return _between(height, _WALL_A, _WALL_X) * self.width / 0.40

    def frontal(self, side: int, height: float, out: float) -> tuple[float, float]:
        """The point of a lung at a height (0..1) and a way out from the mediastinum (0) to the chest wall (1)."""
        inner = 0.05 + 0.03 * height
        return 0.5 + side * (inner + out * (self.wall(height) - inner)), self.level(height, side)

    def lateral(self, height: float, back: float) -> tuple[float, float]:
        """The point at a height (0..1) and a way from the sternum (0) to the back (1) on the lateral image."""
        y = self.apex + 0.01 + height * (sum(self.base) / 2 - self.apex)
        front, rear = self.lateral_walls(height)
        return front + back * (rear - front), y

    def lateral_walls(self, height: float) -> tuple[float, float]:
        """x of the anterior and the posterior chest wall (inner side) on the lateral image at a height."""
        front, rear = _between(height, _FRONT_A, _FRONT_X), _between(height, _REAR_A, _REAR_X)
        bow = self.kyphosis * math.sin(math.pi * min(height, 1.0))
        back = 0.05 * bow - self.stoop * max(1 - height / 0.5, 0.0) ** 1.5
        return 0.5 + (front - 0.5) * self.depth - self.barrel * 0.03, 0.5 + (rear - 0.5) * self.depth + back

    def spine_bend(self, y: float) -> float:
        """How far a scoliosis carries the spine from its course at y of the frontal image: a main curve and a counter-curve."""
        return self.curve * (math.exp(-(((y - 0.42) / 0.22) ** 2)) - 0.45 * math.exp(-(((y - 0.92) / 0.18) ** 2)))

    def rib_hump(self, side: int) -> float:
        """How far a scoliosis lets the ribs of its convex side stand out behind."""
        return 0.5 * max(side * self.curve, 0.0)

    def lung(self, side: int) -> Points:
        """Outline (n, 2) of one lung on the frontal image, down to the diaphragm's dome; the heart lies over it."""
        index = 0 if side < 0 else 1
        base, dome = self.base[index], self.dome[index]
        wall = [(self.wall(h), self.level(h, side)) for h in (0.04, 0.16, 0.33, 0.55, 0.76, 0.92)]
        corner = (self.wall(1.0), base)
        floor = [
            (0.33 * self.width / 0.4, base - 0.62 * dome),
            (0.23 * self.width / 0.4, base - dome),
            (0.13 * self.width / 0.4, base - 0.85 * dome),
            (0.045, base - 0.30 * dome),
        ]
        inner = [(0.035, self.level(h, side)) for h in (0.75, 0.45, 0.22, 0.08)]
        top = [(0.07, self.apex + 0.005), (0.12, self.apex - 0.008)]
        outline = smooth([*wall, corner, corner, *floor, *inner, *top])
        outline[:, 0] = 0.5 + side * outline[:, 0]
        return outline

    def lateral_lung(self, side: int) -> Points:
        """Outline (n, 2) of one lung on the lateral image; front is to the left."""
        index = 0 if side < 0 else 1
        base, dome = self.base[index], self.dome[index]
        front = [self.lateral(h, 0.0) for h in (0.62, 0.48, 0.30, 0.14)]
        hump = self.rib_hump(side)
        heights = (0.12, 0.28, 0.50, 0.75, 0.95)
        rear = [(x + hump * math.sin(math.pi * h), y) for h in heights for x, y in (self.lateral(h, 1.0),)]
        f, r = self.lateral_walls(0.8)[0], self.lateral_walls(1.1)[1]
        corner_front = (f, base - 0.85 * dome + 0.015)
        corner_back = (r - 0.01, base + 0.035)
        floor = [
            (f + 0.86 * (r - f), base - 0.12 * dome),
            (f + 0.66 * (r - f), base - 0.62 * dome),
            (f + 0.42 * (r - f), base - 1.02 * dome),
            (f + 0.20 * (r - f), base - 1.05 * dome),
        ]
        top = [(0.46, self.apex + 0.01), (0.54, self.apex)]
        return smooth([*rear, corner_back, corner_back, *floor, corner_front, corner_front, *front, *top])

    def heart_outline(self) -> Points:
        """Outline (n, 2) of heart and great vessels' root on the frontal image."""
        right, left = (half * self.magnified for half in self.heart)
        y, top = self.heart_y, self.level(0.42, 1)
        bottom = max(self.base[0] - 0.35 * self.dome[0], self.base[1] - 0.45 * self.dome[1]) + 0.02
        return smooth(
            [
                (0.5 - 0.055, top),
                (0.5 - (0.75 + 0.20 * self.globular) * right, y - 0.10),
                (0.5 - right, y),
                (0.5 - 0.85 * right, y + 0.09),
                (0.5 - 0.3 * right, bottom),
                (0.5 + 0.55 * left, bottom),
                (0.5 + (0.97 - 0.12 * self.globular) * left, y + 0.115),
                (0.5 + (0.93 + 0.04 * self.globular) * left, y + 0.045),
                (0.5 + (0.60 + 0.24 * self.globular) * left, y - 0.06),
                (0.5 + 0.065, top),
            ]
        )

    def heart_lateral(self) -> Points:
        """Outline (n, 2) of the heart on the lateral image: behind the lower sternum, on the diaphragm."""
        size = (self.heart[0] + self.heart[1]) * self.magnified / 0.36
        front, rear = self.lateral_walls(0.7)
        bottom = self.base[1] - 1.0 * self.dome[1] + 0.05
        deep, tall = 0.35 * size**0.9 * (1 + 0.10 * self.globular), 0.29 * size**0.6
        x = front + 0.03
        return smooth(
            [
                (x + 0.30 * deep, bottom - tall),
                (x + 0.06, bottom - 0.72 * tall),
                (x, bottom - 0.25 * tall),
                (x + 0.02, bottom),
                (x + 0.62 * deep, bottom + 0.01),
                (min(x + 1.02 * deep, rear - 0.10), bottom - 0.30 * tall),
                (min(x + 0.95 * deep, rear - 0.12), bottom - 0.70 * tall),
                (x + 0.62 * deep, bottom - tall),
            ]
        )

    def spine_x(self, y: float) -> float:
        """x of the spine's middle on the lateral image."""
        rear = self.lateral_walls(min(max((y - self.apex) / 0.70, 0.0), 1.05))[1]
        return rear - 0.075 if y > self.apex else rear - 0.03 + 0.3 * (y - self.apex)

    def posterior_rib(self, side: int, number: int) -> Points:
        """Middle line (n, 2) of a posterior rib, 0 the first, from the spine to the chest wall."""
        line = _on(side, _ribs(self)[0][number])
        if not self.curve:
            return line
        fade = np.linspace(1, 0, len(line)) ** 1.5
        return line + np.stack(
            [fade * self.spine_bend(line[0, 1]), self._tilt(line[0, 1]) * (line[:, 0] - 0.5)], axis=1
        )

    def anterior_rib(self, side: int, number: int) -> Points:
        """Middle line (n, 2) of an anterior rib, 0 the first, from the chest wall down to its cartilage."""
        line = _on(side, _ribs(self)[1][number])
        if not self.curve:
            return line
        start = _ribs(self)[0][number][0, 1]
        return line + np.stack([np.zeros(len(line)), self._tilt(start) * (line[:, 0] - 0.5)], axis=1)

    def _tilt(self, y: float) -> float:
        """Slope of the ribs at y where the spine is bent: they fan out on its convex side and crowd on the other."""
        return -0.5 * (self.spine_bend(y + 0.01) - self.spine_bend(y - 0.01)) / 0.02

    def clavicle(self, side: int) -> Points:
        """Middle line (n, 2) of a clavicle, from the sternum outwards."""
        y = self.clavicle_y
        line = smooth(
            [(0.04, y + 0.035), (0.12, y + 0.018), (0.22, y - 0.012), (0.32, y - 0.03), (0.40, y - 0.03)],
            closed=False,
            steps=5,
        )
        line[:, 0] = 0.5 + side * line[:, 0] * self.width / 0.4
        return line


def _on(side: int, line: Points) -> Points:
    return line if side > 0 else np.array([1.0, 0.0]) + line * np.array([-1.0, 1.0])


@lru_cache(maxsize=4)
def _ribs(chest: Chest) -> tuple[Points, Points]:
    """All ribs of the patient's left: posterior (10, 14, 2) and anterior (10, 10, 2)."""
    number = np.arange(10)[:, None]
    t = np.linspace(0, 1, 14)
    y = chest.apex + chest.rib_start + number * chest.rib_gap - 0.022 * np.sin(np.pi * np.minimum(1.6 * t, 1.0))
    y = y + chest.rib_slope * (0.45 + 0.075 * number) * t**2.2
    height = (y[:, -1] - chest.apex) / (chest.base[0] - chest.apex)
    end = np.interp(height, _WALL_A, _WALL_X)[:, None] * chest.width / 0.40 + 0.012
    back = np.stack([0.5 + 0.035 + t * (end - 0.035), y], axis=2)
    t = np.linspace(0, 1, 10)
    x = end + (0.11 + 0.018 * number - end) * t
    y = y[:, -1:] + (0.11 + 0.012 * number) * np.sin(0.5 * np.pi * t) ** 1.3
    return back, np.stack([0.5 + x, y], axis=2)


def _within(value: float, low: float, high: float) -> float:
    return float(min(max(value, low), high))


def chest_of(seed: int, patient: int, sex: str, age: float) -> Chest:
    """The chest of a patient, the same in all of their studies but for age."""
    rng = stream(seed, "chest", patient)
    male = sex == "M"
    z = rng.standard_normal(20)
    u = rng.random(8)
    old = _within((age - 40) / 50, 0, 1)
    width = _within((0.385 if male else 0.368) + 0.017 * z[0], 0.325, 0.42)
    habitus = _within(0.42 + 0.2 * z[1], 0, 1)
    base = _within(0.80 + 0.028 * z[2] - 0.03 * habitus, 0.73, 0.86)
    ratio = _within(0.435 + 0.02 * z[3] + 0.02 * old + 0.02 * (habitus - 0.4), 0.38, 0.49)
    share = _within(0.33 + 0.04 * z[4], 0.24, 0.42)
    upper = 0.062 + 0.006 * z[5] + 0.006 * old
    return Chest(
        sex=sex,
        age=age,
        habitus=habitus,
        width=width,
        apex=_within(0.105 + 0.018 * z[6], 0.06, 0.16),
        base=(base, base + 0.008 + 0.006 * float(z[7])),
        dome=(_within(0.105 + 0.014 * z[8], 0.07, 0.14), _within(0.092 + 0.014 * z[8], 0.06, 0.13)),
        heart=(2 * width * ratio * share, 2 * width * ratio * (1 - share)),
        heart_y=base - 0.17 + 0.008 * float(z[9]),
        upper=(float(upper * 0.95), float(upper * 1.02)),
        knob=_within(0.034 + 0.003 * z[10] + 0.006 * old, 0.026, 0.048),
        unfolded=_within(0.05 + 0.16 * old + 0.05 * z[11], 0, 0.3),
        unfolded_lateral=_within(0.05 + 0.16 * old + 0.05 * z[11], 0, 0.3),
        depth=_within(0.96 + 0.05 * z[12] + 0.04 * habitus, 0.84, 1.08),
        kyphosis=_within(0.2 + 0.6 * old + 0.2 * z[13], 0, 1.2),
        bone=_within(1.08 - 0.35 * old * (1.0 if male else 1.25) + 0.06 * z[14], 0.55, 1.2),
        spine_turn=float(0.008 * z[15]),
        rib_start=0.005 + 0.060 * (float(u[1]) - 0.5),
        rib_gap=_within(0.068 + 0.0035 * z[16], 0.059, 0.078),
        rib_slope=_within(0.17 + 0.06 * z[17], 0.05, 0.30),
        clavicle_y=float(0.135 + 0.020 * z[18]),
        breast=0.0 if male else float(0.35 + 0.65 * u[0]),
        marking=_within(1.0 + 0.15 * z[19], 0.65, 1.4),
        texture=(seed, patient),
    )
