"""Air where none should be: around the mediastinum, under the diaphragm, in the soft tissue; emphysema's airy lungs, bullae."""

from dataclasses import replace

import numpy as np

from hilum.sources.phantom.canvas import smooth
from hilum.sources.phantom.chest import Chest
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene
from hilum.sources.phantom.streams import stream


def hyperinflated(chest: Chest, lesion: Lesion, strength: float) -> Chest:
    """Emphysema: low flat diaphragm, narrow heart, barrel chest, few markings, a wide space behind the sternum."""
    s = min(1.25, 1.15 * strength)
    lower = 0.036 * s
    return replace(
        chest,
        base=(min(chest.base[0] + lower, 0.92), min(chest.base[1] + lower, 0.93)),
        dome=(chest.dome[0] * (1 - 0.62 * s), chest.dome[1] * (1 - 0.62 * s)),
        heart=(chest.heart[0] * (1 - 0.14 * s), chest.heart[1] * (1 - 0.16 * s)),
        airy=chest.airy + 1.1 * s,
        marking=chest.marking * (1 - 0.40 * s),
        barrel=s,
        rib_slope=chest.rib_slope * (1 - 0.35 * s),
    )


def bullae(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Emphysema: round airy spaces without markings in the upper zones."""
    w, c = lesion.where, scene.canvas
    for k in range(2):
        size = 0.05 + 0.05 * w[k]
        if scene.lateral:
            x, y = scene.chest.lateral(0.22 + 0.1 * w[2 + k], 0.35 + 0.25 * w[4 + k])
        else:
            x, y = scene.chest.frontal(lesion.side * (1 - 2 * k), 0.16 + 0.15 * w[2 + k], 0.55 + 0.2 * w[4 + k])
        hole = np.minimum(2 * c.bump(x, y, size, 1.2 * size, soft=0.08), 1)
        scene.density -= hole * (scene.vessels + scene.air * np.float32(0.06)) * np.float32(min(1.0, strength))


def bulla(scene: Scene, lesion: Lesion, strength: float) -> None:
    """One large round space full of air, without a vessel in it, its wall as thin as a hair; mostly at an apex."""
    w, c = lesion.where, scene.canvas
    size = 0.075 + 0.045 * w[0]
    if w[2] < 0.75:
        x, y = scene.at(lesion.side, 0.20 + 0.12 * w[1], 0.58 + 0.1 * w[3], 0.35 + 0.35 * w[4])
    else:
        x, y = scene.at(lesion.side, 0.74 + 0.08 * w[1], 0.58 + 0.1 * w[3], 0.70 + 0.10 * w[4])
    angle = np.linspace(0, 2 * np.pi, 33)
    circle = np.stack([x + size * np.cos(angle), y + 1.15 * size * np.sin(angle)], axis=1)
    hole = c.fill([circle], 0.002) * scene.lung
    scene.density -= hole * (
        scene.vessels * np.float32(min(1.0, 0.85 * strength)) + scene.air * np.float32(0.11 * strength)
    )
    scene.density += c.lines([circle], 0.005) * scene.air * np.float32(0.15 * strength)


def pneumomediastinum(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Dark streaks along both sides of the mediastinum up into the neck, with the lifted pleura as a white line outside."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    dark, bright = [], []
    if scene.lateral:
        for back in (0.10, 0.40, 0.55):
            dark.append(np.array([chest.lateral(h, back + 0.03 * np.sin(9 * h)) for h in np.linspace(-0.08, 0.60, 8)]))
        bright = [line + np.array([0.012, 0.0]) for line in dark]
    else:
        for side, wide in zip((-1, 1), chest.upper, strict=True):
            heart = chest.heart[0 if side < 0 else 1] * chest.magnified
            x = [0.05, wide * 0.9, wide + 0.008, wide + 0.012, wide + 0.025, 0.85 * heart, heart + 0.008]
            y = [chest.level(h, side) for h in (-0.18, 0.0, 0.15, 0.32, 0.48, 0.62, 0.76)]
            reach = 5 + int(3 * w[0])
            line = np.stack([0.5 + side * np.array(x), np.array(y)], axis=1)[:reach]
            dark.append(smooth(line, closed=False))
            bright.append(dark[-1] + np.array([side * 0.011, 0.0]))
            dark.append(smooth(line[:4] - np.array([side * 0.03, 0.0]), closed=False))
    width = 0.008 + 0.005 * w[1]
    deep = 0.085 if scene.lateral else 0.14
    scene.density -= c.blur(c.lines(dark, width), 0.003) * np.float32(deep * strength) * scene.body
    scene.density += c.lines(bright, 0.004) * np.float32(0.09 * strength) * scene.body


def pneumoperitoneum(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A black crescent under the diaphragm, which stands above it as a thin white line."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    thick = (0.018 + 0.035 * w[0]) * (0.6 + 0.4 * strength)
    sides = (-1, 1) if w[1] < 0.5 or scene.lateral else (-1,)
    # What the lung would cover if it hung lower is the space just below the diaphragm, a thin line of which is left.
    lungs = [chest.lateral_lung(side) if scene.lateral else chest.lung(side) for side in sides]
    below = c.fill([lung + np.array([0.0, thick + 0.006]) for lung in lungs])
    muscle = c.fill([lung + np.array([0.0, 0.006]) for lung in lungs])
    window = c.blank()
    for side in sides:
        top = chest.base[0 if side < 0 else 1] - chest.dome[0 if side < 0 else 1]
        x = chest.lateral(0.8, 0.34)[0] if scene.lateral else 0.5 + side * 0.22 * chest.width / 0.4
        window = np.maximum(window, np.minimum(3 * c.bump(x, top, 0.11 + 0.03 * w[2], 0.10, soft=0.0), 1))
    crescent = c.blur(np.maximum(below - muscle, 0) * window * (1 - scene.lung), 0.0015)
    scene.density -= crescent * np.float32(0.38 * min(1.1, strength))


def subcutaneous(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Dark streaks and bubbles between the muscle fibres of the chest wall and the neck."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    rng = stream(lesion.key[0], "subcutaneous", lesion.key[1], lesion.key[2])
    streaks, widths = [], []
    sides = (-1, 1) if w[0] < 0.4 else (lesion.side,)
    for _ in range(44):
        side = sides[int(rng.integers(len(sides)))]
        height = rng.uniform(-0.12, 0.85)
        t = np.linspace(-0.5, 0.5, 5)
        long = rng.uniform(0.04, 0.11)
        if scene.lateral:
            x0, y0 = chest.lateral(
                height, 1.06 + 0.06 * rng.random() if rng.random() < 0.5 else -0.09 * rng.random() - 0.02
            )
            heading = np.pi / 2 + rng.normal(0, 0.25)
        else:
            out = rng.uniform(0.012, 0.075)
            x0 = 0.5 + side * (chest.wall(max(height, 0.0)) + out if height > 0.12 else rng.uniform(0.08, 0.32))
            y0 = chest.level(height, side) - (0.0 if height > 0.12 else 0.05)
            heading = np.pi / 2 + side * rng.normal(0.15 if height > 0.12 else 0.9, 0.25)
        bend = rng.normal(0, 0.010)
        streaks.append(
            np.stack([x0 + long * np.cos(heading) * t + bend * (t * 2) ** 2, y0 + long * np.sin(heading) * t], axis=1)
        )
        widths.append(float(rng.uniform(0.004, 0.010)))
    outside = scene.body * (1 - np.float32(0.8) * scene.lung)
    scene.density -= c.blur(c.lines(streaks, widths), 0.0018) * outside * np.float32(0.15 * strength)
