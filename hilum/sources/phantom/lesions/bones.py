"""Broken bones: ribs and clavicle on the frontal, a wedged vertebra on the lateral."""

import numpy as np

from hilum.sources.phantom.canvas import Points
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene


def fracture(scene: Scene, lesion: Lesion, strength: float) -> None:
    """One to four neighbouring ribs (or the clavicle) with a gap and a step; on the lateral a vertebra that has sunk in."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    if scene.lateral:
        y = chest.level(0.45 + 0.5 * w[0], 1)
        x = chest.spine_x(y)
        deep, tall = 0.046, 0.050
        wedge = np.array([(x - deep, y + 0.45 * tall), (x + deep, y), (x + deep, y + tall), (x - deep, y + tall)])
        lost = np.array([(x - deep - 0.004, y - 0.006), (x + deep, y - 0.006), (x - deep - 0.004, y + 0.45 * tall)])
        scene.density += c.fill([wedge], 0.002) * np.float32(0.16 * strength)
        scene.density -= c.fill([lost], 0.002) * np.float32(0.15 * strength)
        return
    if w[1] < 0.22:
        bones = [chest.clavicle(lesion.side)]
        spread = 0.024
    else:
        first = 2 + int(4 * w[2])
        bones = [chest.posterior_rib(lesion.side, first + k) for k in range(1 + int(3.2 * w[3]))]
        spread = 0.021
    gaps: list[Points] = []
    pieces: list[Points] = []
    for bone in bones:
        middle = int((0.45 + 0.4 * w[4]) * (len(bone) - 1))
        end = min(middle + 4, len(bone))
        along = bone[min(middle + 1, len(bone) - 1)] - bone[middle]
        along = along / max(float(np.hypot(*along)), 1e-6)
        across = np.array([-along[1], along[0]])
        gaps.append(np.stack([bone[middle] - 0.019 * across, bone[middle] + 0.019 * across]))
        step = 0.016 * (1 if w[5] < 0.5 else -1)
        pieces.append(bone[middle:end] + step * across)
    broken = c.blur(c.lines(gaps, 0.011), 0.0015)
    shifted = c.lines(pieces, spread) - np.float32(0.4) * c.lines(pieces, 0.6 * spread)
    scene.density -= broken * np.float32(0.22 * strength)
    scene.density += shifted * np.float32(0.18 * strength) * scene.body
    callus = c.blank()
    for gap in gaps:
        callus += c.cloud(float(gap[:, 0].mean()), float(gap[:, 1].mean()), 0.020, 0.016)
    scene.density += callus * np.float32(0.14 * strength * w[6])
