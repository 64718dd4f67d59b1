"""Diseases between lung and chest wall and between the lobes: effusion, thickening, pneumothorax, fissures."""

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
    scene.density += fluid * scene.air * np.float32(0.52 * min(1.0, 1.3 * strength))


def layer(scene: Scene, side: int, low: float, high: float, thick: float) -> F32:
    """A layer along the inner chest wall between two heights, tapering at both ends."""
    chest, rows = scene.chest, np.linspace(low, high, 9)
    taper = thick * np.sin(np.linspace(0.12, np.pi - 0.12, 9)) ** 0.7
    if scene.lateral:
        wall = np.array([chest.lateral(h, 1.0) for h in rows])
        inner = wall - np.stack([taper, np.zeros(9)], axis=1)
        outer = wall + np.array([0.006, 0.0])
    else:
        wall = np.array([chest.frontal(side, h, 1.0) for h in rows])
        inner = wall - side * np.stack([taper, np.zeros(9)], axis=1)
        outer = wall + side * np.array([0.006, 0.0])
    return scene.canvas.fill([np.concatenate([outer, inner[::-1]])], 0.0025)


def thickening(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A dense rim along the lateral wall or over the apex, even and smooth."""
    w = lesion.where
    thick = 0.020 + 0.022 * w[0]
    if w[1] < 0.35:
        rim = layer(scene, lesion.side, 0.0, 0.30 + 0.15 * w[2], thick * 1.3)
    else:
        rim = layer(scene, lesion.side, 0.35 + 0.15 * w[2], 0.96, thick)
    scene.density += rim * np.float32(0.28 * strength)


def other(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Calcified pleural plaques with bright, ragged edges, or fluid caught in a fissure as a spindle."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    if w[0] < 0.6:
        for k in range(3):
            low = 0.30 + 0.20 * k + 0.08 * w[1 + k]
            plaque = layer(scene, lesion.side, low, low + 0.11, 0.018 + 0.012 * w[4])
            scene.density += plaque * np.float32((0.16 + 0.10 * w[5 + k]) * strength)
        x, y = chest.lateral(0.93, 0.45) if scene.lateral else chest.frontal(lesion.side, 0.86, 0.55)
        scene.density += c.lines([smooth([(x - 0.06, y + 0.012), (x, y), (x + 0.06, y + 0.016)], closed=False)], 0.008) * np.float32(0.25 * strength)  # fmt: skip
    else:
        x, y = chest.lateral(0.55, 0.45) if scene.lateral else chest.frontal(-1, 0.50, 0.55)
        scene.density += c.bump(x, y, 0.085 + 0.03 * w[1], 0.026 + 0.014 * w[2], 30.0 if scene.lateral else 4.0) * np.float32(0.24 * strength)  # fmt: skip


def _free_air(scene: Scene, side: int, gap: float, bend: float) -> tuple[F32, Points]:
    """The space between a fallen lung and the wall, 1 inside, and the pleural line (n, 2) that bounds it."""
    c, chest = scene.canvas, scene.chest
    rows = np.linspace(-0.02, 0.96, 14)
    if scene.lateral:
        line = np.array([chest.lateral(h, 0.92 - 0.5 * gap) for h in rows[:10]]) + np.array([0.0, 0.7 * gap])
        outside = np.concatenate([line, [chest.lateral(rows[9], 1.1), (0.95, 0.0), (0.5, -0.1)]])
        return np.asarray(c.fill([outside], 0.002) * scene.lung, np.float32), line
    depth = gap * (0.55 + 0.45 * np.cos(np.clip(rows, 0, 1) * np.pi * (0.6 + 0.4 * bend)))
    line = np.stack([
        [0.5 + side * max(chest.wall(float(h)) - d, 0.05) for h, d in zip(rows, depth)],
        [chest.level(float(h), side) + 1.2 * float(depth[0]) * max(0.0, 1 - 2.2 * float(h)) for h in rows],
    ], axis=1)  # fmt: skip
    top = np.array([(0.5 + side * 0.06, line[0, 1] + 0.03)])
    wall = np.array(
        [(0.5 + side * 0.48, chest.level(0.98, side)), (0.5 + side * 0.48, -0.05), (0.5 + side * 0.06, -0.05)]
    )
    line = np.concatenate([top, line])
    return np.asarray(c.fill([np.concatenate([line, wall])], 0.002) * scene.lung, np.float32), line


def pneumothorax(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Air beside the lung: no markings beyond a thin pleural line, the lung within a little denser."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    side = lesion.side
    gap = (0.042 + 0.13 * w[0] ** 1.3) * (0.65 + 0.45 * strength)
    free, line = _free_air(scene, side, gap, w[1])
    edge = c.lines([smooth(line, closed=False)], 0.005) * scene.lung
    scene.density -= free * scene.vessels * np.float32(min(1.0, 1.1 * strength))
    scene.density -= free * scene.air * np.float32(0.16 * strength)
    scene.density += edge * np.float32(0.15 * strength)
    if gap > 0.08 and not scene.lateral:  # the collapsing lung becomes denser
        inside = c.cloud(*chest.frontal(side, 0.5, 0.3), 0.12, 0.25) * (1 - free)
        scene.density += inside * scene.air * np.float32(0.12 * strength)


def hydropneumothorax(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Air beside the lung above fluid with a straight, level surface, from wall to wall; no meniscus."""
    w, c, side = lesion.where, scene.canvas, lesion.side
    free, line = _free_air(scene, side, 0.10 + 0.08 * w[0], w[1])
    x, y = scene.at(side, 0.68 + 0.16 * w[2], 0.7, 0.6)
    surface = float(c.pose.apply(np.array([[x, y]]))[0, 1])  # level in the room, however the patient leans
    below = np.clip((c.rows() - np.float32(surface)) * (0.5 * c.size) + 0.5, 0, 1)
    own = scene.lung if scene.lateral else scene.lung * (side * (c.columns() - np.float32(0.5)) > 0.02)
    fluid, air = own * below, free * (1 - below)
    scene.density -= air * (
        scene.vessels * np.float32(min(1.0, 0.85 * strength)) + scene.air * np.float32(0.16 * strength)
    )
    scene.density += (
        c.lines([smooth(line, closed=False)], 0.005) * scene.lung * (1 - below) * np.float32(0.15 * strength)
    )
    share = 0.6 if scene.lateral else 1.0  # on the lateral the other lung stays as it is
    scene.density -= fluid * scene.vessels * np.float32(share * min(1.0, strength))
    scene.density += fluid * scene.air * np.float32(0.53 * share * strength)


def fissure(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A fissure thickened by fluid or scar: the right minor one level across the lung; on the lateral the slanting major one as well."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    height, thick = 0.46 + 0.06 * w[0], 0.007 + 0.007 * w[1]
    if scene.lateral:
        major = [
            chest.lateral(0.20, 0.94),
            chest.lateral(0.46, 0.62),
            chest.lateral(0.72, 0.36),
            chest.lateral(0.92, 0.18),
        ]
        minor = [chest.lateral(height, 0.58), chest.lateral(height - 0.02, 0.30), chest.lateral(height + 0.01, 0.03)]
        lines = [smooth(major, closed=False), smooth(minor, closed=False)]
    else:
        lines = [smooth([chest.frontal(-1, height + dy, out) for dy, out in ((0.0, 0.20), (-0.02, 0.5), (-0.005, 0.8), (0.02, 1.0))], closed=False)]  # fmt: skip
    scene.density += c.blur(c.lines(lines, thick), 0.0012) * scene.air * np.float32(0.21 * strength)


def azygos_lobe(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A hair line from the right apex, bowed outwards, down to the azygos vein, a drop above the hilum; on the lateral a faint arc."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    if scene.lateral:
        path = [
            chest.lateral(-0.02, 0.52 + 0.1 * w[0]),
            chest.lateral(0.10, 0.66),
            chest.lateral(0.22, 0.60),
            chest.lateral(0.27, 0.50),
        ]
    else:
        path = [chest.frontal(-1, -0.01, 0.9), chest.frontal(-1, 0.08, 0.50 + 0.15 * w[0]), chest.frontal(-1, 0.19, 0.28 + 0.1 * w[0]), chest.frontal(-1, 0.29, 0.07)]  # fmt: skip
    x, y = path[-1]
    line = c.blur(c.lines([smooth(path, closed=False)], 0.006), 0.001) * np.float32(0.13)
    drop = c.bump(x, y - 0.004, 0.013 + 0.004 * w[1], 0.024 + 0.006 * w[1], 0.0 if scene.lateral else 24.0, soft=0.1)
    scene.density += (line * scene.lung + drop * np.float32(0.24)) * np.float32(strength)
