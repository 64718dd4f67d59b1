"""The frontal projection of a healthy chest: soft tissue, lungs, mediastinum, bones and lung markings, as density."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hilum.sources.phantom.canvas import F32, Canvas, Points, smooth
from hilum.sources.phantom.chest import Chest
from hilum.sources.phantom.scene import Scene
from hilum.sources.phantom.streams import stream
from hilum.sources.phantom.vessels import tree

SIDES = (-1, 1)
HILUM = 0.40  # height of the hila in a lung, 0 apex .. 1 costophrenic angle


def body_outline(chest: Chest) -> Points:
    """Skin (n, 2): neck, shoulders, trunk with the arms just outside."""
    w, fat = chest.width, 0.025 + 0.06 * chest.habitus
    neck = 0.085 + 0.03 * chest.habitus
    right = [
        (neck, -0.10),
        (neck + 0.015, 0.02),
        (0.24, 0.075 - 0.02 * chest.habitus),
        (0.40, 0.11),
        (0.52, 0.20),
        (0.56, 0.42),
        (w + fat + 0.035, 0.40),
        (w + fat + 0.012, 0.60),
        (w + fat + 0.005, 0.85),
        (w + fat + 0.02, 1.10),
    ]
    left = [(-x, y) for x, y in reversed(right)]
    outline = smooth([*right, *left], steps=5)
    outline[:, 0] += 0.5
    return outline


def mediastinum_outline(chest: Chest, upper: Sequence[float] | None = None) -> Points:
    """Outline (n, 2) of the mediastinum above the heart: superior vena cava on the right, aortic knob on the left."""
    right, left = upper or chest.upper
    top, hilum = chest.apex - 0.03, chest.level(0.48, 1)
    knob_y = chest.level(0.22, 1)
    bulge = chest.knob * (1 + 0.7 * chest.unfolded)
    return smooth(
        [
            (0.5 - 0.75 * right, top),
            (0.5 - 0.95 * right, chest.level(0.12, -1)),
            (0.5 - right, chest.level(0.30, -1)),
            (0.5 - right - 0.012 - 0.035 * chest.unfolded, hilum - 0.02),
            (0.5 - 0.9 * right, hilum + 0.05),
            (0.5 + 0.9 * left, hilum + 0.05),
            (0.5 + left + 0.045 * chest.unfolded, hilum - 0.03),
            (0.5 + 0.92 * left + 0.05 * chest.unfolded, knob_y + 1.35 * bulge),
            (0.5 + left + 0.55 * bulge + 0.03 * chest.unfolded, knob_y + 0.2 * bulge),
            (0.5 + 0.95 * left, knob_y - 1.1 * bulge),
            (0.5 + 0.72 * left, top),
        ]
    )


def hilum_at(chest: Chest, side: int) -> tuple[float, float]:
    """Where the hilum lies; the left a little higher than the right."""
    return 0.5 + side * (0.085 + 0.15 * (chest.width - 0.38)), chest.level(HILUM - 0.02 * side, side)


def vessel_lines(chest: Chest, side: int) -> tuple[Points, NDArray[np.float64]]:
    """The patient's vessel tree placed in one lung: (n, 5, 2) lines and their generation, the finest first."""
    hx, hy = hilum_at(chest, side)
    reach = chest.wall(0.6) - 0.07
    up, down = hy - chest.apex, chest.level(1.0, side) - hy
    points, generation = tree(*chest.texture, side)
    x = hx + side * points[:, :, 0] * reach * 0.95
    y = hy + np.where(points[:, :, 1] < 0, up, down) * points[:, :, 1] * 0.95
    return np.stack([x, y], axis=2), generation


def draw_frontal(canvas: Canvas, chest: Chest) -> Scene:
    """A healthy frontal chest of this geometry."""
    c = canvas
    body = c.fill([body_outline(chest)], 0.012)
    lung = c.fill([chest.lung(-1), chest.lung(1)], 0.0035)
    thick = c.blur(body, 0.05)
    density = thick * np.float32(0.56 + 0.10 * chest.habitus)

    # A ray near the chest wall crosses less lung than one in the middle.
    heart, upper = chest.heart_outline(), mediastinum_outline(chest)
    middle = c.fill([heart, upper, *_beside_the_spine(chest)], 0.004)
    profile = np.float32(0.55) + np.float32(0.45) * c.blur(lung, 0.035)
    air = lung * profile * (1 - np.float32(0.88) * middle)
    density -= air * np.float32(0.44 * (0.88 + 0.12 * chest.airy))
    density += middle * np.float32(0.10)
    density += c.fill([heart], 0.02) * np.float32(0.07)
    density += c.fill([upper], 0.015) * np.float32(0.03)
    below = c.fill([_abdomen(chest)], 0.012) * (1 - lung)
    density += below * np.float32(0.16)
    density += _soft_tissue(c, chest)
    density -= _airway(c, chest)
    density -= _stomach(c, chest)

    bones = _bones(c, chest, body)
    density += bones
    lines, generation = (np.concatenate(both) for both in zip(*(vessel_lines(chest, side) for side in SIDES)))
    order = np.argsort(-generation, kind="stable")
    fine = 0.66 ** generation[order]
    vessels = c.lines(lines[order], (0.0125 * fine).tolist(), (0.45 + 0.55 * fine).tolist())
    for side in SIDES:
        vessels = np.maximum(vessels, np.float32(0.75) * c.cloud(*hilum_at(chest, side), 0.035, 0.06))
    vessels = c.blur(vessels, 0.0028) * air * np.float32(0.125 * chest.marking)
    rng = stream(chest.texture[0], "texture", chest.texture[1])
    vessels += air * c.noise(rng, 48) * np.float32(0.014 * chest.marking) + air * c.noise(rng, 12) * np.float32(0.018)
    density += vessels
    return Scene(c, chest, False, density, air, lung, vessels, bones, body)


def _beside_the_spine(chest: Chest) -> list[Points]:
    """Outline (n, 2) of the tissue around a spine that bends out of the mediastinum's shadow; none where it is straight."""
    if not chest.curve:
        return []
    y = np.linspace(0.0, 1.0, 15)
    middle = 0.5 + np.array([chest.spine_bend(float(v)) for v in y])
    return [np.concatenate([np.stack([middle - 0.042, y], axis=1), np.stack([middle + 0.042, y], axis=1)[::-1]])]


def _abdomen(chest: Chest) -> Points:
    y = max(chest.base) - 0.01
    return np.array([(0.5 - chest.width - 0.05, y - 0.12), (0.5 + chest.width + 0.05, y - 0.12), (0.5 + chest.width + 0.1, 1.3), (0.5 - chest.width - 0.1, 1.3)])  # fmt: skip


def _soft_tissue(c: Canvas, chest: Chest) -> F32:
    """Breasts, pectoral muscles and the folds of the arm pit."""
    tissue = c.blank()
    for side in SIDES:
        if chest.breast:
            size = 0.10 + 0.04 * chest.habitus
            x, y = 0.5 + side * chest.width * 0.56, chest.level(0.80, side)
            tissue += c.bump(x, y, size * 1.25, size, soft=0.12) * np.float32(
                0.10 * chest.breast * (0.6 + 0.8 * chest.habitus)
            )
        tissue += c.cloud(0.5 + side * chest.width * 0.80, chest.level(0.22, side), 0.12, 0.13) * np.float32(
            0.07 + 0.04 * chest.habitus
        )
    return tissue


def _airway(c: Canvas, chest: Chest) -> F32:
    """Trachea and main bronchi, darker than the mediastinum around them."""
    top, carina = chest.apex - 0.14, chest.level(0.27, 1)
    trachea = np.array([(0.5, top), (0.5 + 0.5 * chest.spine_bend(chest.apex), chest.apex), (0.5 - 0.006, carina)])
    right = np.array([(0.494, carina), (0.455, carina + 0.055)])
    left = np.array([(0.494, carina), (0.56, carina + 0.065)])
    return c.blur(c.lines([trachea, right, left], [0.034, 0.026, 0.022], [1.0, 0.8, 0.7]), 0.005) * np.float32(0.11)


def _stomach(c: Canvas, chest: Chest) -> F32:
    """The gas bubble under the left hemidiaphragm."""
    rng = stream(chest.texture[0], "stomach", chest.texture[1])
    full = float(rng.random())
    x, y = 0.5 + chest.width * (0.45 + 0.15 * full), chest.base[1] - chest.dome[1] + 0.065 + 0.02 * full
    return c.bump(x, y, 0.035 + 0.035 * full, 0.018 + 0.02 * full, soft=0.25) * np.float32(0.24 * float(rng.random()))


def _bones(c: Canvas, chest: Chest, body: F32) -> F32:
    """Spine, ribs, clavicles, scapulae and humeral heads, with brighter cortex."""
    back: list[Points] = []
    front: list[Points] = []
    clavicles: list[Points] = []
    for side in SIDES:
        back += [chest.posterior_rib(side, k) for k in range(10)]
        front += [chest.anterior_rib(side, k) for k in range(1, 6)]
        clavicles.append(chest.clavicle(side))
    ribs = hollow(c, back, 0.021) * np.float32(0.095) + hollow(c, front, 0.022) * np.float32(0.055)
    bones = ribs + hollow(c, clavicles, 0.024) * np.float32(0.13)
    spine = np.linspace(-0.05, 1.05, 19)
    bodies, discs = [], []
    for y in spine:
        x = 0.5 + chest.spine_turn * np.sin(np.pi * y) + chest.spine_bend(y)
        low = x + chest.spine_bend(y + 0.048) - chest.spine_bend(y)
        bodies.append(np.array([(x - 0.034, y), (x + 0.034, y), (low + 0.034, y + 0.048), (low - 0.034, y + 0.048)]))
        discs.append(np.array([(x, y + 0.012), (low, y + 0.036)]))
    bones += c.fill(bodies, 0.005) * np.float32(0.075) + c.blur(c.lines(discs, 0.010), 0.004) * np.float32(0.05)
    for side in SIDES:
        blade = smooth([(0.30, 0.17), (0.40, 0.145), (0.46, 0.22), (0.41, 0.30), (0.37, 0.42), (0.335, 0.30)])
        blade[:, 0] = 0.5 + side * blade[:, 0] * (0.55 + 0.45 * chest.width / 0.38)
        edge = c.lines([blade], 0.008)
        bones += c.fill([blade], 0.006) * np.float32(0.045) + c.blur(edge, 0.003) * np.float32(0.03)
        bones += c.bump(0.5 + side * 0.475, 0.165, 0.055, soft=0.1) * np.float32(0.10)
    return np.asarray(c.blur(bones, 0.0015) * body * np.float32(chest.bone), np.float32)


def hollow(c: Canvas, lines: Sequence[Points], width: float) -> F32:
    """Flat bones seen from their side: a bright rim around a weaker core."""
    outer, inner = c.lines(lines, width), c.lines(lines, width * 0.62)
    return np.asarray(outer - np.float32(0.38) * inner, np.float32)
