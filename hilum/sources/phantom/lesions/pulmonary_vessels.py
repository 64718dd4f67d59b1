"""Diseases of the pulmonary arteries: embolism, the infarction that may follow, hypertension."""

import numpy as np

from hilum.sources.phantom import frontal, lateral
from hilum.sources.phantom.canvas import F32, Points, smooth
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene


def _descending_artery(scene: Scene, side: int, long: float) -> list[Points]:
    """The artery from a hilum down and out, in three pieces for a pen that gets finer."""
    x, y = frontal.hilum_at(scene.chest, side)
    path = smooth(
        [(x - side * 0.040, y - 0.035), (x + side * 0.016, y), (x + side * 0.036, y + 0.5 * long), (x + side * 0.050, y + long)],
        closed=False,
    )  # fmt: skip
    return [path[:8], path[7:13], path[12:]]


def embolism(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A part of a lung without vessels and too dark, and the artery to it wide and cut off at the hilum; often little to be seen."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    height = 0.28 + 0.10 * w[1] if w[0] < 0.5 else 0.62 + 0.10 * w[1]
    size = 0.13 + 0.04 * w[2]
    x, y = scene.at(lesion.side, height, 0.62, 0.30 + 0.4 * w[3])
    empty = np.minimum(1.6 * c.cloud(x, y, size, 1.15 * size), 1)
    share = 0.55 if scene.lateral else 1.0  # on the lateral the other lung's vessels stay
    scene.density -= empty * scene.vessels * np.float32(min(1.0, 0.85 * strength) * share)
    scene.density -= empty * scene.air * np.float32(0.05 * share * strength)
    if scene.lateral:
        hx, hy = lateral.hilum_at(chest)
        artery = c.bump(hx - 0.012 * lesion.side, hy - 0.005, 0.034, 0.026, soft=0.1)
    else:
        path = np.concatenate(_descending_artery(scene, lesion.side, 0.06))
        artery = c.blur(c.lines([path], 0.036 + 0.010 * w[4]), 0.003)
    scene.fill(artery, 0.50 * strength)


def infarction(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A hump on the pleura above the costophrenic angle, its round top towards the hilum, without air bronchograms."""
    w, c = lesion.where, scene.canvas
    height, size = 0.74 + 0.18 * w[0], 0.060 + 0.030 * w[1]
    x, y = scene.at(lesion.side, height, 1.0, 1.0)
    towards = 1 if scene.lateral else lesion.side  # the wall's side
    hump = c.bump(x + 0.012 * towards, y, 0.95 * size, 1.25 * size, -25 * towards * (0.6 + 0.4 * w[2]), soft=0.06)
    scene.density += np.minimum(1.9 * hump, 1) * scene.lung * np.float32(0.23 * strength)


def _centre(scene: Scene) -> F32:
    """1 at the hila, falling towards the edge of the lungs."""
    c, chest = scene.canvas, scene.chest
    if scene.lateral:
        return c.cloud(*lateral.hilum_at(chest), 0.13, 0.14)
    return np.asarray(sum(c.cloud(*frontal.hilum_at(chest, side), 0.11, 0.14) for side in (-1, 1)), np.float32)


def hypertension(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Wide central arteries and a bulging pulmonary trunk, few vessels outside; on the lateral the right ventricle fills the front."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    scene.density -= scene.vessels * np.maximum(1 - _centre(scene), 0) * np.float32(min(1.0, 0.70 * strength))
    wide = 0.030 + 0.010 * w[0]
    if scene.lateral:
        x, y = lateral.hilum_at(chest)
        arteries = c.bump(x - 0.030, y - 0.004, 1.25 * wide, wide, soft=0.1)
        arch = smooth(
            [(x - 0.02, y - 0.05), (x + 0.02, y - 0.062), (x + 0.055, y - 0.035), (x + 0.065, y + 0.01)], closed=False
        )
        arteries = np.maximum(arteries, c.blur(c.lines([arch], 0.8 * wide), 0.004))
        scene.fill(arteries, 0.50 * strength)
        scene.fill(c.cloud(*chest.lateral(0.46, 0.12), 0.07, 0.12), 0.55 * strength)
        return
    lines, widths = [], []
    for side in (-1, 1):
        lines += _descending_artery(scene, side, 0.13 + 0.03 * w[1])
        widths += [1.1 * wide, 0.85 * wide, 0.6 * wide]
        trunk = c.bump(0.5 + chest.upper[1] - 0.006, chest.level(0.365, 1), 0.034 + 0.010 * w[2], 0.052, soft=0.05)
    arteries = np.float32(0.65) * c.blur(c.lines(lines, widths), 0.004)
    scene.fill(np.maximum(arteries, np.minimum(2.0 * trunk, 1)), 0.85 * strength)
