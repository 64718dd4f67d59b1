"""Diseases that fill or scar the lung: opacity, consolidation, pneumonia, tuberculosis, edema, atelectasis, fibrosis."""

import numpy as np

from hilum.sources.phantom.canvas import F32
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene
from hilum.sources.phantom.streams import stream


def _grain(scene: Scene, lesion: Lesion, cells: int) -> F32:
    rng = stream(lesion.key[0], "grain", lesion.key[1], lesion.key[2], lesion.finding, int(scene.lateral))
    return scene.canvas.noise(rng, cells)


def _bronchograms(scene: Scene, patch: F32, amount: float) -> None:
    """Air-filled bronchi stay dark in airless lung; they run where the vessels run."""
    scene.density -= np.clip(patch, 0, 1) * scene.vessels * np.float32(2.2 * amount)


def opacity(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A hazy, ground-glass opacity without an edge, through which the vessels are still seen."""
    w, c = lesion.where, scene.canvas
    size = 0.09 + 0.08 * w[0]
    x, y = scene.at(lesion.side, 0.35 + 0.5 * w[1], 0.3 + 0.45 * w[2], 0.2 + 0.65 * w[3])
    patch = c.cloud(x, y, size, size * (0.8 + 0.6 * w[4]), 90 * w[5]) * (
        1 + np.float32(0.18) * _grain(scene, lesion, 24)
    )
    scene.fill(patch, 0.62 * strength)
    if w[6] < 0.35 and not scene.lateral:  # often on both sides
        x, y = scene.chest.frontal(-lesion.side, 0.4 + 0.4 * w[7], 0.3 + 0.4 * w[8])
        scene.fill(c.cloud(x, y, size, 0.8 * size), 0.45 * strength)


def consolidation(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A lobe's dense, even filling, sharp where a fissure bounds it, with air bronchograms."""
    w, c = lesion.where, scene.canvas
    upper = w[0] < 0.35
    height = 0.24 + 0.12 * w[1] if upper else 0.68 + 0.14 * w[1]
    x, y = scene.at(lesion.side, height, 0.5, 0.35 + 0.2 * w[2] if upper else 0.72)
    patch = np.minimum(1.5 * c.cloud(x, y, 0.13 + 0.05 * w[3], 0.11 + 0.05 * w[4], 30 * (w[5] - 0.5)), 1)
    fissure = scene.chest.level(0.42 + 0.06 * w[6], lesion.side)
    edge = np.clip((c.rows() - np.float32(fissure)) * 90, -1, 1) * (-1 if upper else 1)
    patch = patch * (0.5 + 0.5 * edge) * (1 + np.float32(0.08) * _grain(scene, lesion, 16))
    scene.fill(patch, 0.95 * strength)
    _bronchograms(scene, patch, strength)


def pneumonia(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Patchy segmental filling, blotches that run together, mostly in one lower zone."""
    w, c = lesion.where, scene.canvas
    height, out = 0.50 + 0.34 * w[0], 0.25 + 0.45 * w[1]
    x, y = scene.at(lesion.side, height, out, 0.35 + 0.45 * w[2])
    size = 0.085 + 0.06 * w[3]
    blotches = np.clip(0.62 + 0.55 * _grain(scene, lesion, 18), 0, 1.4)
    patch = np.minimum(1.3 * c.cloud(x, y, size * 1.15, size, 60 * w[4]), 1) * blotches
    scene.fill(patch, 0.85 * strength)
    _bronchograms(scene, patch, 0.7 * strength)


def tuberculosis(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Patches in an upper zone with one or two cavities, small nodules scattered around, streaks to a hilum drawn upwards."""
    w, c = lesion.where, scene.canvas
    rng = stream(lesion.key[0], "tubercles", lesion.key[1], lesion.key[2])
    height, out, back = 0.17 + 0.10 * w[0], 0.40 + 0.25 * w[1], 0.55 + 0.12 * w[2]
    x, y = scene.at(lesion.side, height, out, back)
    size = 0.080 + 0.035 * w[3]
    blotches = np.clip(0.60 + 0.60 * _grain(scene, lesion, 22), 0, 1.4)
    patch = np.minimum(1.3 * c.cloud(x, y, size, 1.1 * size), 1) * blotches
    for k in range(1 + int(2 * w[4])):
        radius = (0.038 + 0.016 * w[5]) * (1 - 0.35 * k)
        cx, cy = x + (0.8 * k - 0.2) * size, y + (0.9 * k - 0.2) * size
        wall = np.minimum(1.6 * c.bump(cx, cy, radius, (0.85 + 0.3 * w[6]) * radius), 1) * (0.7 + 0.4 * blotches)
        hole = np.minimum(1.8 * c.bump(cx + 0.15 * radius, cy, 0.58 * radius, (0.50 + 0.15 * w[7]) * radius), 1)
        patch = np.maximum(patch, wall) * (1 - hole)
    angle, dots = np.linspace(0, 2 * np.pi, 9), []
    for away, turn, radius in rng.random((9, 3)):
        reach = size * (0.7 + 1.1 * away)
        middle = np.array([x + reach * np.cos(2 * np.pi * turn), y + reach * abs(np.sin(2 * np.pi * turn))])
        dots.append(middle + (0.009 + 0.004 * radius) * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    hx, hy = scene.at(lesion.side, 0.38, 0.05, 0.50)
    streaks = [np.array([(x + d, y), (hx + 0.4 * d, hy)]) for d in (-0.03, 0.0, 0.03)]
    scene.fill(patch + np.float32(0.55) * c.fill(dots, 0.003), 0.72 * strength)
    scene.density += c.lines(streaks, 0.006) * scene.lung * np.float32(0.07 * strength)


def infiltration(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Ill-defined streaks and small shadows along the bronchi of both lower zones."""
    w, c = lesion.where, scene.canvas
    sides = (lesion.side, -lesion.side) if w[0] < 0.6 else (lesion.side,)
    streaks = np.maximum(_grain(scene, lesion, 56), 0)
    for side in (lesion.side,) if scene.lateral else sides:
        x, y = scene.chest.lateral(0.65, 0.6) if scene.lateral else scene.chest.frontal(side, 0.55 + 0.25 * w[1], 0.32)
        patch = c.cloud(x, y, 0.12, 0.15 + 0.05 * w[2])
        scene.fill(patch * (0.20 + 0.6 * streaks), 0.85 * strength)
        scene.density += patch * scene.vessels * np.float32(0.9 * strength)


def edema(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Water spreading from both hila like wings, thick vessels, blurred hila, Kerley B lines at the bases."""
    w, c = lesion.where, scene.canvas
    haze: F32 = np.float32(0.8) + np.float32(0.2) * _grain(scene, lesion, 20)
    if scene.lateral:
        patch = c.cloud(*scene.chest.lateral(0.48, 0.5), 0.19, 0.20)
        scene.fill(patch * haze, 0.42 * strength)
        scene.density += scene.vessels * np.float32(0.5 * strength)
        return
    wings = c.blank()
    for side in (-1, 1):
        x, y = scene.chest.frontal(side, 0.50 + 0.05 * w[0], 0.26)
        uneven = 1.0 + 0.35 * (w[1] - 0.5) * side
        wings += c.cloud(x, y, 0.125, 0.19, 14.0 * side) * np.float32(uneven)
    scene.fill(wings * haze, 0.40 * strength)
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
    scene.fill(plates, 0.5 * strength)
    x = chest.lateral(0.85, 0.6 + 0.2 * w[6])[0] if scene.lateral else 0.5 + side * (0.16 + 0.10 * w[6])
    base = c.cloud(x, floor + 0.02, 0.12, 0.055 + 0.025 * w[7])
    scene.fill(np.minimum(1.4 * base, 1), 0.8 * strength)


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
    scene.fill(where, 0.16 * strength)
