"""What is no disease but looks like one on the frontal image, and that the lateral refutes."""

import numpy as np

from hilum.sources.phantom.canvas import smooth
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene


def nipple(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A nodule-like shadow in the lower zone; on the lateral it lies on the skin in front of the chest."""
    w, chest = lesion.where, scene.chest
    if scene.lateral:
        x, y = chest.lateral(0.72, -0.10)
    else:
        x, y = chest.frontal(lesion.side, 0.68 + 0.12 * w[0], 0.50 + 0.2 * w[1])
    scene.density += scene.canvas.bump(x, y, 0.020 + 0.010 * w[2], soft=0.12) * np.float32(0.27 * strength)


def skin_fold(scene: Scene, lesion: Lesion, strength: float) -> None:
    """An edge like a pleural line, but broad, running past the lung, with markings beyond it; absent on the lateral."""
    if scene.lateral:
        return
    w, c, chest, s = lesion.where, scene.canvas, scene.chest, lesion.side
    path = smooth(
        [
            (0.5 + s * (0.20 + 0.06 * w[0]), chest.level(-0.05, s)),
            chest.frontal(s, 0.35, 0.80),
            chest.frontal(s, 0.95, 0.86),
        ],
        closed=False,
    )
    inner = path - np.array([s * 0.03, 0.0])
    fold = c.blur(c.fill([np.concatenate([path, inner[::-1]])]), 0.006)
    scene.density += (fold * np.float32(0.07) + c.lines([path], 0.005) * np.float32(0.09)) * np.float32(strength)


def vessel_end_on(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A vessel seen along its axis, round as a nodule beside its bronchus; on the lateral a short line."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    if scene.lateral:
        x, y = chest.lateral(0.42 + 0.12 * w[0], 0.50)
        vessel = c.lines([np.array([(x - 0.06, y + 0.01), (x + 0.05, y - 0.01)])], 0.014)
        scene.density += c.blur(vessel, 0.003) * np.float32(0.06 * strength)
    else:
        x, y = chest.frontal(lesion.side, 0.40 + 0.14 * w[0], 0.28 + 0.15 * w[1])
        scene.density += c.bump(x, y, 0.018 + 0.008 * w[2], soft=0.1) * np.float32(0.27 * strength)
