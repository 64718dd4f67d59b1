"""Heart, mediastinum and aorta: changes of the chest's outlines, and calcium in the arch."""

from dataclasses import replace

import numpy as np

from hilum.sources.phantom.canvas import smooth
from hilum.sources.phantom.chest import Chest
from hilum.sources.phantom.lateral import aorta_line
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene


def cardiomegaly(chest: Chest, lesion: Lesion, strength: float) -> Chest:
    """The heart takes more than half of the thorax: ratio .50 when subtle to .63."""
    ratio = sum(chest.heart) / (2 * chest.width)
    grow = 1 + (max(1.08, (0.58 + 0.03 * lesion.where[0]) / ratio) - 1) * strength
    more = 0.10 * (lesion.where[1] - 0.5) * min(1.0, strength)  # of one chamber or the other
    return replace(chest, heart=(chest.heart[0] * grow * (1 - more), chest.heart[1] * grow * (1 + more / 2)))


def cardiomyopathy(chest: Chest, lesion: Lesion, strength: float) -> Chest:
    """All chambers wide: a heart as round as a ball on the frontal, reaching back towards the spine on the lateral."""
    grow = 1 + (0.23 + 0.08 * lesion.where[0]) * strength
    return replace(chest, heart=(chest.heart[0] * grow, chest.heart[1] * grow), globular=min(1.2, strength))


def enlarged_mediastinum(chest: Chest, lesion: Lesion, strength: float) -> Chest:
    """A wide upper mediastinum; true when the space behind the sternum is filled as well, mimicked by either sign alone."""
    w = lesion.where
    wide = (0.021 + 0.012 * w[0]) * strength
    right, left = wide * (0.7 + 0.6 * w[1]), wide * (1.3 - 0.6 * w[1])
    if lesion.mimic != "lateral":
        chest = replace(chest, upper=(chest.upper[0] + right, chest.upper[1] + left))
    if lesion.mimic != "frontal":
        chest = replace(chest, retrosternal=min(1.1, 1.05 * strength), upper_lateral=0.5 * strength)
    return chest


def tortuous_aorta(chest: Chest, lesion: Lesion, strength: float) -> Chest:
    """A long, unfolded aorta: it bulges to both sides on the frontal, and backwards over the spine on the lateral."""
    if lesion.mimic != "lateral":
        chest = replace(chest, unfolded=chest.unfolded + strength, knob=chest.knob * (1 + 0.15 * strength))
    if lesion.mimic != "frontal":
        chest = replace(chest, unfolded_lateral=chest.unfolded_lateral + strength)
    return chest


def calcified_aorta(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Thin bright arcs in the wall of the aortic knob, on the lateral along the arch."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    if scene.lateral:
        path = aorta_line(chest)
        start = 5 + int(4 * w[0])
        arcs = [
            path[start : start + 8] + np.array([0.0, -0.022]),
            path[start + 3 : start + 13] + np.array([0.015, 0.010]),
        ]
        width = 0.005
    else:
        y, r = chest.level(0.22, 1), chest.knob * (1 + 0.7 * chest.unfolded)
        x = 0.5 + chest.upper[1] + 0.03 * chest.unfolded - 0.45 * r
        first = -1.2 + 0.5 * w[0]
        angle = np.linspace(first, first + 1.5 + 0.8 * w[1], 12)
        arcs = [np.stack([x + 0.95 * r * np.cos(angle), y + 0.95 * r * np.sin(angle)], axis=1)]
        arcs.append(
            smooth([(x + 0.7 * r, y + 1.6 * r), (x + 0.65 * r, y + 2.6 * r), (x + 0.6 * r, y + 3.4 * r)], closed=False)
        )
        width = 0.0075
    scene.density += c.blur(c.lines(arcs, width, [1.0, 0.7]), 0.0012) * np.float32(0.33 * strength)
