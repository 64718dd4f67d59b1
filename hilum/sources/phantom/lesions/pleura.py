"""Diseases between lung and chest wall: effusion, thickening, other pleural disease, pneumothorax."""

import numpy as np

from hilum.sources.phantom.canvas import F32, Points, smooth
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene


def effusion(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Fluid blunts the costophrenic angle and rises along the wall as a meniscus; on the lateral it fills the back first."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    height = 0.045 + 0.21 * w[0] ** 1.3 * min(1.3, 0.4 + strength)
    sides = (lesion.side, -lesion.side) if w[1] < 0.35 else (lesion.side,)
    outlines: list[Points] = []
    for k, side in enumerate(sides):
        rise = height * (1.0 if k == 0 else 0.4 + 0.5 * w[2])
        if scene.lateral:
            base = chest.base[0 if side < 0 else 1]
            rear, front = chest.lateral_walls(1.0)[1], chest.lateral_walls(0.9)[0]
            deep = rear + 0.02
            outlines.append(
                smooth(
                    [(deep, base + 0.10), (deep + 0.05, base - 1.9 * rise - 0.05), (deep - 0.015, base - 1.3 * rise - 0.02),
                     (deep - 0.11, base - 0.7 * rise - 0.02), (front + 0.40, base - 0.55 * rise - 0.02), (front + 0.25, base + 0.10)]
                )
            )  # fmt: skip
        else:
            base = chest.base[0 if side < 0 else 1]
            wall = chest.wall(0.95)
            outline = smooth(
                [(wall + 0.03, base + 0.06), (wall + 0.03, base - 1.7 * rise - 0.02), (wall - 0.012, base - 1.35 * rise),
                 (wall - 0.07, base - 0.75 * rise - 0.005), (0.19, base - 0.55 * rise - 0.01), (0.03, base - 0.62 * rise),
                 (0.03, base + 0.06)]
            )  # fmt: skip
            outline[:, 0] = 0.5 + side * outline[:, 0]
            outlines.append(outline)
    fluid = c.fill(outlines, 0.006)
    scene.density += fluid * scene.air * np.float32(0.52 * min(1.0, 0.45 + 0.55 * strength))


def _rim(scene: Scene, lesion: Lesion, low: float, high: float, thick: float) -> F32:
    """A layer along the inner chest wall between two heights, tapering at both ends."""
    chest, rows = scene.chest, np.linspace(low, high, 9)
    taper = thick * np.sin(np.linspace(0.12, np.pi - 0.12, 9)) ** 0.7
    if scene.lateral:
        wall = np.array([chest.lateral(h, 1.0) for h in rows])
        inner = wall - np.stack([taper, np.zeros(9)], axis=1)
        outer = wall + np.array([0.006, 0.0])
    else:
        wall = np.array([chest.frontal(lesion.side, h, 1.0) for h in rows])
        inner = wall - lesion.side * np.stack([taper, np.zeros(9)], axis=1)
        outer = wall + lesion.side * np.array([0.006, 0.0])
    return scene.canvas.fill([np.concatenate([outer, inner[::-1]])], 0.0025)


def thickening(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A dense rim along the lateral wall or over the apex, even and smooth."""
    w = lesion.where
    thick = 0.020 + 0.022 * w[0]
    if w[1] < 0.35:
        rim = _rim(scene, lesion, 0.0, 0.30 + 0.15 * w[2], thick * 1.3)
    else:
        rim = _rim(scene, lesion, 0.35 + 0.15 * w[2], 0.96, thick)
    scene.density += rim * np.float32(0.28 * strength)


def other(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Calcified pleural plaques with bright, ragged edges, or fluid caught in a fissure as a spindle."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    if w[0] < 0.6:
        for k in range(3):
            low = 0.30 + 0.20 * k + 0.08 * w[1 + k]
            plaque = _rim(scene, lesion, low, low + 0.11, 0.018 + 0.012 * w[4])
            scene.density += plaque * np.float32((0.16 + 0.10 * w[5 + k]) * strength)
        x, y = chest.lateral(0.93, 0.45) if scene.lateral else chest.frontal(lesion.side, 0.86, 0.55)
        scene.density += c.lines([smooth([(x - 0.06, y + 0.012), (x, y), (x + 0.06, y + 0.016)], closed=False)], 0.008) * np.float32(0.25 * strength)  # fmt: skip
    else:
        x, y = chest.lateral(0.55, 0.45) if scene.lateral else chest.frontal(-1, 0.50, 0.55)
        scene.density += c.bump(x, y, 0.085 + 0.03 * w[1], 0.026 + 0.014 * w[2], 30.0 if scene.lateral else 4.0) * np.float32(0.24 * strength)  # fmt: skip


def pneumothorax(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Air beside the lung: no markings beyond a thin pleural line, the lung within a little denser."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    side = lesion.side
    gap = (0.042 + 0.13 * w[0] ** 1.3) * (0.65 + 0.45 * strength)
    rows = np.linspace(-0.02, 0.96, 14)
    if scene.lateral:
        line = np.array([chest.lateral(h, 0.92 - 0.5 * gap) for h in rows[:10]]) + np.array([0.0, 0.7 * gap])
        outside = np.concatenate([line, [chest.lateral(rows[9], 1.1), (0.95, 0.0), (0.5, -0.1)]])
        free = c.fill([outside], 0.002) * scene.lung
    else:
        depth = gap * (0.55 + 0.45 * np.cos(np.clip(rows, 0, 1) * np.pi * (0.6 + 0.4 * w[1])))
        line = np.stack([
            [0.5 + side * max(chest.wall(float(h)) - d, 0.05) for h, d in zip(rows, depth)],
            [chest.level(float(h), side) + 1.2 * float(depth[0]) * max(0.0, 1 - 2.2 * float(h)) for h in rows],
        ], axis=1)  # fmt: skip
        top = np.array([(0.5 + side * 0.06, line[0, 1] + 0.03)])
        wall = np.array(
            [(0.5 + side * 0.48, chest.level(0.98, side)), (0.5 + side * 0.48, -0.05), (0.5 + side * 0.06, -0.05)]
        )
        line = np.concatenate([top, line])
        free = c.fill([np.concatenate([line, wall])], 0.002) * scene.lung
    edge = c.lines([smooth(line, closed=False)], 0.005) * scene.lung
    scene.density -= free * scene.vessels * np.float32(min(1.0, 0.5 + 0.6 * strength))
    scene.density -= free * scene.air * np.float32(0.16 * strength)
    scene.density += edge * np.float32(0.15 * strength)
    if gap > 0.08 and not scene.lateral:  # the collapsing lung becomes denser
        inside = c.cloud(*chest.frontal(side, 0.5, 0.3), 0.12, 0.25) * (1 - free)
        scene.density += inside * scene.air * np.float32(0.12 * strength)
