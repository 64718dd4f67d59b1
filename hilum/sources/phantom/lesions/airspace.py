"""Diseases that fill or collapse the lung: opacity, consolidation, pneumonia, infiltration, edema, atelectasis, fibrosis."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum.sources.phantom.canvas import F32
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene
from hilum.sources.phantom.streams import stream


def _at(scene: Scene, lesion: Lesion, height: float, out: float, back: float) -> tuple[float, float]:
    if scene.lateral:
        return scene.chest.lateral(height, back)
    return scene.chest.frontal(lesion.side, height, out)


def _grain(scene: Scene, lesion: Lesion, cells: int) -> F32:
    rng = stream(lesion.key[0], "grain", lesion.key[1], lesion.key[2], lesion.finding, int(scene.lateral))
    return scene.canvas.noise(rng, cells)


def _fill(scene: Scene, patch: NDArray[np.floating[Any]], amount: float) -> None:
    """Water for air: density rises where there was air, at most to that of soft tissue."""
    scene.density += np.clip(patch, 0, 1.2) * scene.air * np.float32(0.40 * amount)


def _bronchograms(scene: Scene, patch: F32, amount: float) -> None:
    """Air-filled bronchi stay dark in airless lung; they run where the vessels run."""
    scene.density -= np.clip(patch, 0, 1) * scene.vessels * np.float32(2.2 * amount)


def opacity(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A hazy, ground-glass opacity without an edge, through which the vessels are still seen."""
    w, c = lesion.where, scene.canvas
    size = 0.09 + 0.08 * w[0]
    x, y = _at(scene, lesion, 0.35 + 0.5 * w[1], 0.3 + 0.45 * w[2], 0.2 + 0.65 * w[3])
    patch = c.cloud(x, y, size, size * (0.8 + 0.6 * w[4]), 90 * w[5]) * (
        1 + np.float32(0.18) * _grain(scene, lesion, 24)
    )
    _fill(scene, patch, 0.62 * strength)
    if w[6] < 0.35 and not scene.lateral:  # often on both sides
        x, y = scene.chest.frontal(-lesion.side, 0.4 + 0.4 * w[7], 0.3 + 0.4 * w[8])
        _fill(scene, c.cloud(x, y, size, 0.8 * size), 0.45 * strength)


def consolidation(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A lobe's dense, even filling, sharp where a fissure bounds it, with air bronchograms."""
    w, c = lesion.where, scene.canvas
    upper = w[0] < 0.35
    height = 0.24 + 0.12 * w[1] if upper else 0.68 + 0.14 * w[1]
    x, y = _at(scene, lesion, height, 0.5, 0.35 + 0.2 * w[2] if upper else 0.72)
    patch = np.minimum(1.5 * c.cloud(x, y, 0.13 + 0.05 * w[3], 0.11 + 0.05 * w[4], 30 * (w[5] - 0.5)), 1)
    fissure = scene.chest.level(0.42 + 0.06 * w[6], lesion.side)
    edge = np.clip((c.rows() - np.float32(fissure)) * 90, -1, 1) * (-1 if upper else 1)
    patch = patch * (0.5 + 0.5 * edge) * (1 + np.float32(0.08) * _grain(scene, lesion, 16))
    _fill(scene, patch, 0.95 * strength)
    _bronchograms(scene, patch, strength)


def pneumonia(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Patchy segmental filling, blotches that run together, mostly in one lower zone."""
    w, c = lesion.where, scene.canvas
    height, out = 0.50 + 0.34 * w[0], 0.25 + 0.45 * w[1]
    x, y = _at(scene, lesion, height, out, 0.35 + 0.45 * w[2])
    size = 0.085 + 0.06 * w[3]
    blotches = np.clip(0.62 + 0.55 * _grain(scene, lesion, 18), 0, 1.4)
    patch = np.minimum(1.3 * c.cloud(x, y, size * 1.15, size, 60 * w[4]), 1) * blotches
    _fill(scene, patch, 0.85 * strength)
    _bronchograms(scene, patch, 0.7 * strength)


def infiltration(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Ill-defined streaks and small shadows along the bronchi of both lower zones."""
    w, c = lesion.where, scene.canvas
    sides = (lesion.side, -lesion.side) if w[0] < 0.6 else (lesion.side,)
    streaks = np.maximum(_grain(scene, lesion, 56), 0)
    for side in (lesion.side,) if scene.lateral else sides:
        x, y = scene.chest.lateral(0.65, 0.6) if scene.lateral else scene.chest.frontal(side, 0.55 + 0.25 * w[1], 0.32)
        patch = c.cloud(x, y, 0.12, 0.15 + 0.05 * w[2])
        _fill(scene, patch * (0.20 + 0.6 * streaks), 0.85 * strength)
        scene.density += patch * scene.vessels * np.float32(0.9 * strength)


def edema(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Water spreading from both hila like wings, thick vessels, blurred hila, Kerley B lines at the bases."""
    w, c = lesion.where, scene.canvas
    haze: F32 = np.float32(0.8) + np.float32(0.2) * _grain(scene, lesion, 20)
    if scene.lateral:
        patch = c.cloud(*scene.chest.lateral(0.48, 0.5), 0.19, 0.20)
        _fill(scene, patch * haze, 0.42 * strength)
        scene.density += scene.vessels * np.float32(0.5 * strength)
        return
    wings = c.blank()
    for side in (-1, 1):
        x, y = scene.chest.frontal(side, 0.50 + 0.05 * w[0], 0.26)
        uneven = 1.0 + 0.35 * (w[1] - 0.5) * side
        wings += c.cloud(x, y, 0.125, 0.19, 14.0 * side) * np.float32(uneven)
    _fill(scene, wings * haze, 0.40 * strength)
    scene.density += scene.vessels * np.float32(0.6 * strength)
    lines = []
    for side in (-1, 1):
        for k in range(6):
            height = 0.78 + 0.03 * k
            wall, y = scene.chest.wall(height) - 0.004, scene.chest.level(height, side)
            lines.append(np.array([(0.5 + side * wall, y), (0.5 + side * (wall - 0.028), y - 0.003)]))
    scene.density += c.lines(lines, 0.004) * scene.lung * np.float32(0.10 * strength)


def atelectasis(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Plate-like bands above a raised diaphragm, with crowded vessels and lost volume at the base."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    side = lesion.side
    index = 0 if side < 0 else 1
    floor = chest.base[index] - chest.dome[index]
    bands, widths = [], []
    for k in range(1 + int(2.4 * w[0])):
        y = floor - 0.018 - 0.045 * k - 0.03 * w[1]
        tilt = 0.05 * (w[2] - 0.5) + 0.012 * k
        if scene.lateral:
            x0, x1 = chest.lateral(0.75, 0.30 + 0.2 * w[3])[0], chest.lateral(0.75, 0.72 + 0.2 * w[4])[0]
        else:
            x0, x1 = 0.5 + side * (0.10 + 0.05 * w[3]), 0.5 + side * (0.26 + 0.10 * w[4]) * chest.width / 0.38
        bands.append(np.array([(x0, y + tilt), ((x0 + x1) / 2, y - 0.004), (x1, y - tilt)]))
        widths.append(0.008 + 0.008 * w[5])
    plates = c.blur(c.lines(bands, widths), 0.003)
    _fill(scene, plates, 0.5 * strength)
    x = chest.lateral(0.85, 0.6 + 0.2 * w[6])[0] if scene.lateral else 0.5 + side * (0.16 + 0.10 * w[6])
    base = c.cloud(x, floor + 0.02, 0.12, 0.055 + 0.025 * w[7])
    _fill(scene, np.minimum(1.4 * base, 1), 0.8 * strength)


def fibrosis(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A net of fine lines with small rings (honeycombs) under the pleura, mostly at both bases."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    net = np.abs(_grain(scene, lesion, 44))
    net = np.clip(0.9 - 1.7 * net, 0, 1)  # lines where a smooth field crosses zero
    if scene.lateral:
        where = c.cloud(*chest.lateral(0.80, 0.80), 0.15, 0.20) + c.cloud(*chest.lateral(0.75, 0.15), 0.08, 0.14)
    else:
        where = c.blank()
        for side in (-1, 1):
            where += c.cloud(*chest.frontal(side, 0.80, 0.75), 0.11, 0.17 + 0.06 * w[0])
            where += c.cloud(*chest.frontal(side, 0.30, 0.97), 0.05, 0.25) * np.float32(0.6)
    scene.density += np.minimum(where, 1) * net * np.minimum(scene.air * 1.4, 1) * np.float32(0.22 * strength)
    _fill(scene, where, 0.16 * strength)
