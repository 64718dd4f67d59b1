"""Lung without air because it has lost its volume: a whole lobe, or a piece rolled up against the pleura."""

from dataclasses import replace

import numpy as np

from hilum.sources.phantom import frontal, lateral
from hilum.sources.phantom.canvas import F32, smooth
from hilum.sources.phantom.chest import Chest
from hilum.sources.phantom.lesions.pleura import layer
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene


def _lobe(lesion: Lesion) -> str:
    """Which lobe collapses: half of the time the lower one."""
    if lesion.where[0] < 0.5:
        return "lower"
    return "middle" if lesion.side < 0 and lesion.where[0] > 0.8 else "upper"


def lost_volume(chest: Chest, lesion: Lesion, strength: float) -> Chest:
    """The diaphragm rises on the side of the collapsed lobe."""
    right, left = chest.dome
    rise = 1 + (0.40 if _lobe(lesion) == "lower" else 0.20) * strength
    return replace(chest, dome=(right * rise, left) if lesion.side < 0 else (right, left * rise))


def lobar(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A dense wedge, sharp at the fissure that was pulled towards it: at the apex, beside the spine, or at the heart's right border."""
    patch = _LOBES[_lobe(lesion)](scene, lesion)
    scene.density += patch * (scene.lung * np.float32(0.12) + scene.air * np.float32(0.11)) * np.float32(strength)


def _upper(scene: Scene, lesion: Lesion) -> F32:
    """The right shrinks upwards under a raised minor fissure; the left forwards: a veil on the frontal, a band behind the sternum."""
    w, c, chest, side = lesion.where, scene.canvas, scene.chest, lesion.side
    if side > 0:
        if scene.lateral:
            course = ((0.02, 0.48), (0.20, 0.30), (0.42, 0.24 + 0.05 * w[1]), (0.62, 0.10))
            edge = smooth([chest.lateral(height, back) for height, back in course], closed=False)
            front = [chest.lateral(height, -0.05) for height in (0.66, 0.45, 0.15)]
            return c.fill([np.concatenate([edge, front])], 0.004)
        veil = c.cloud(*chest.frontal(side, 0.30, 0.20 + 0.1 * w[1]), 0.17, 0.24)
        return np.asarray(np.minimum(1.25 * veil, 1), np.float32)
    if scene.lateral:
        x, y = lateral.hilum_at(chest)
        edge = smooth([chest.lateral(0.08, 0.12), (x - 0.07, y - 0.09 - 0.03 * w[1]), (x, y - 0.015), (x + 0.06, y - 0.12), chest.lateral(0.02, 0.80)], closed=False)  # fmt: skip
        return c.fill([np.concatenate([edge, [chest.lateral(-0.06, 0.6), chest.lateral(-0.04, 0.3)]])], 0.004)
    rise = 0.06 * w[1]
    fissure = [chest.frontal(side, h - rise, out) for h, out in ((0.42, -0.05), (0.34, 0.20), (0.27, 0.50), (0.24, 0.80), (0.24, 1.05))]  # fmt: skip
    corner = [chest.frontal(side, -0.05, 1.6), chest.frontal(side, -0.08, -0.1)]
    return c.fill([np.concatenate([smooth(fissure, closed=False), corner])], 0.003)


def _middle(scene: Scene, lesion: Lesion) -> F32:
    """A haze along the right border of the heart; on the lateral a narrow wedge from the hilum to the lower sternum."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    if scene.lateral:
        x, y = lateral.hilum_at(chest)
        low, high = chest.lateral(0.72 + 0.06 * w[1], -0.02), chest.lateral(0.62 + 0.06 * w[1], -0.02)
        return c.fill([np.array([(x, y + 0.02), high, low])], 0.004)
    border = 0.5 - chest.heart[0] * chest.magnified
    wedge = np.array([(0.48, chest.level(0.50, -1)), (border - 0.10 - 0.03 * w[1], chest.level(0.70, -1)), (border - 0.03, chest.level(0.90, -1)), (0.48, chest.level(0.90, -1))])  # fmt: skip
    return c.fill([wedge], 0.014)


def _lower(scene: Scene, lesion: Lesion) -> F32:
    """A triangle beside the spine, on the left behind the heart, its outer edge straight; on the lateral at the back, over the spine."""
    w, c, chest, side = lesion.where, scene.canvas, scene.chest, lesion.side
    if scene.lateral:
        edge = [
            chest.lateral(0.42, 1.02),
            chest.lateral(0.68, 0.80 - 0.04 * w[1]),
            chest.lateral(1.02, 0.62 - 0.08 * w[1]),
        ]
        return c.fill([np.array([*edge, chest.lateral(1.1, 1.05)])], 0.004)
    x, y = frontal.hilum_at(chest, side)
    foot = 0.5 + side * (0.20 + 0.05 * w[1])
    return c.fill([np.array([(x - side * 0.03, y + 0.01), (foot, chest.level(1.0, side)), (0.5, chest.level(1.0, side)), (0.5, y + 0.01)])], 0.003)  # fmt: skip


_LOBES = {"upper": _upper, "middle": _middle, "lower": _lower}


def rounded(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A round mass on thickened pleura low at the back; vessels sweep to it in arcs like the tail of a comet."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    size, height = 0.046 + 0.020 * w[0], 0.62 + 0.20 * w[1]
    x, y = scene.at(lesion.side, height, 0.80, 0.88)
    hx, hy = lateral.hilum_at(chest) if scene.lateral else frontal.hilum_at(chest, lesion.side)
    ball = np.minimum(1.3 * c.bump(x, y, size, 0.9 * size, soft=0.06), 1)
    way = np.array([hx - x, hy - y])
    across = np.array([-way[1], way[0]]) / np.hypot(*way)
    tail = []
    for k in range(5):
        off = (k - 2) / 2  # from one edge of the ball to the other; all bend the same way
        start = np.array([x, y]) + 0.85 * size * off * across
        middle = np.array([x, y]) + 0.45 * way + (0.022 * off + 0.035 * (1 if w[2] < 0.5 else -1)) * across
        end = np.array([x, y]) + 0.85 * way + 0.012 * off * across
        tail.append(smooth([tuple(start), tuple(middle), tuple(end)], closed=False))
    thick = layer(scene, lesion.side, height - 0.16, min(height + 0.16, 0.97), 0.022)
    scene.density += (ball * np.float32(0.30) + thick * np.float32(0.16)) * np.float32(strength)
    scene.density += c.blur(c.lines(tail, 0.008), 0.0015) * (1 - ball) * scene.lung * np.float32(0.15 * strength)
