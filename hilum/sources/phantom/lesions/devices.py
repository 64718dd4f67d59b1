"""Support devices: tubes, lines, pacemakers, wires."""

from collections.abc import Callable

import numpy as np

from hilum.sources.phantom.canvas import smooth
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene


def devices(scene: Scene, lesion: Lesion, strength: float) -> None:
    """One to three devices, drawn at random from DEVICES."""
    w = lesion.where
    names = list(DEVICES)
    first = int(w[0] * len(names))
    count = 1 + int(3 * w[1])
    for k in range(count):
        DEVICES[names[(first + k * (1 + int(3 * w[2]))) % len(names)]](scene, lesion, 1.25 * strength)  # metal and wire


def endotracheal_tube(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A tube in the trachea, its tip above the carina."""
    c, chest = scene.canvas, scene.chest
    tip = chest.level(0.10 + 0.12 * lesion.where[3], 1)
    x = chest.lateral(0.2, 0.5)[0] + 0.01 if scene.lateral else 0.497
    path = np.array([(x, -0.05), (x, chest.apex), (x, tip)])
    scene.density += (c.lines([path], 0.016) - np.float32(0.55) * c.lines([path], 0.009)) * np.float32(0.24 * strength)


def gastric_tube(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A thin tube down the middle, through the diaphragm to the left."""
    c, chest, w = scene.canvas, scene.chest, lesion.where
    if scene.lateral:
        xs = [chest.lateral(h, b)[0] for h, b in ((0.0, 0.55), (0.3, 0.60), (0.6, 0.66), (0.85, 0.66))]
        path = [(xs[0], -0.05), (xs[1], chest.level(0.3, 1)), (xs[2], chest.level(0.6, 1)), (xs[3], chest.level(0.9, 1)), (xs[3] - 0.12, 1.02)]  # fmt: skip
    else:
        path = [(0.505, -0.05), (0.503, chest.level(0.3, 1)), (0.508, chest.level(0.7, 1)), (0.525, chest.level(1.0, 1)), (0.60 + 0.08 * w[4], 1.0)]  # fmt: skip
    scene.density += c.lines([smooth(path, closed=False)], 0.010) * np.float32(0.20 * strength)


def central_line(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A thin catheter from the neck or the arm to the superior vena cava."""
    c, chest, w = scene.canvas, scene.chest, lesion.where
    tip = chest.level(0.36 + 0.14 * w[5], -1)
    if scene.lateral:
        x = chest.lateral(0.3, 0.42)[0]
        path = [(x - 0.02, chest.apex - 0.02), (x, chest.level(0.2, 1)), (x - 0.015, tip)]
    elif w[6] < 0.5:
        path = [(0.40, -0.03), (0.435, chest.apex), (0.452, chest.level(0.18, -1)), (0.447, tip)]
    else:
        side = -1 if w[6] < 0.75 else 1
        y = chest.clavicle_y + 0.03
        path = [(0.5 + side * 0.44, y + 0.14), (0.5 + side * 0.30, y + 0.005), (0.5 + side * 0.12, y + 0.02), (0.455, chest.level(0.18, -1)), (0.447, tip)]  # fmt: skip
    scene.density += c.lines([smooth(path, closed=False)], 0.009) * np.float32(0.26 * strength)


def pacemaker(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A metal box below the left clavicle and its leads into the heart."""
    c, chest, w = scene.canvas, scene.chest, lesion.where
    heart_y = chest.heart_y
    if scene.lateral:
        front = chest.lateral_walls(0.25)[0]
        x, y = front + 0.005, chest.level(0.20, 1)
        box = c.fill(
            [smooth([(x - 0.012, y - 0.05), (x + 0.012, y - 0.05), (x + 0.004, y + 0.05), (x - 0.020, y + 0.05)])]
        )
        lead = [(x, y - 0.03), chest.lateral(0.16, 0.38), chest.lateral(0.42, 0.45), chest.lateral(0.70, 0.22)]
        leads = [smooth(lead, closed=False)]
    else:
        side = 1 if w[7] < 0.85 else -1
        x, y = 0.5 + side * (0.27 + 0.03 * w[8]), chest.level(0.19 + 0.05 * w[9], side)
        box = c.bump(x, y, 0.052, 0.044, 20.0 * side, soft=0.0)
        box = np.minimum(4 * box, 1)
        start = (x, y - 0.03)
        leads = [smooth([start, (0.5 + side * 0.14, chest.clavicle_y + 0.03), (0.462, chest.level(0.22, -1)), (0.45, heart_y - 0.05), (0.49, heart_y + 0.06), (0.5 + 0.55 * chest.heart[1], heart_y + 0.09)], closed=False)]  # fmt: skip
        if w[3] < 0.6:
            leads.append(smooth([start, (0.5 + side * 0.13, chest.clavicle_y + 0.035), (0.457, chest.level(0.24, -1)), (0.452, heart_y - 0.03), (0.46, heart_y - 0.06)], closed=False))  # fmt: skip
    scene.density += box * np.float32(0.75 * min(1.0, strength))
    scene.density += c.lines(leads, 0.008) * np.float32(0.30 * strength)


def sternal_wires(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Loops of wire that close the sternum."""
    c, chest = scene.canvas, scene.chest
    loops = []
    for k in range(6):
        height = 0.22 + 0.085 * k
        if scene.lateral:
            x, y = chest.lateral(height, -0.03)
            loops.append(np.array([(x - 0.016, y - 0.004), (x + 0.016, y + 0.004)]))
        else:
            y, tilt = chest.level(height, 1), 0.006 * np.sin(7 * k + 9 * lesion.where[4])
            angle = np.linspace(0, 2 * np.pi, 12)
            loops.append(
                np.stack([0.5 + 0.023 * np.cos(angle), y + 0.012 * np.sin(angle) + tilt * np.cos(angle)], axis=1)
            )
    scene.density += c.lines(loops, 0.005) * np.float32(0.40 * strength)


def chest_tube(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A drain between the ribs into the pleural space, with a bright stripe."""
    c, chest, w = scene.canvas, scene.chest, lesion.where
    if scene.lateral:
        path = [
            chest.lateral(0.75, 0.2),
            chest.lateral(0.60, 0.45),
            chest.lateral(0.25, 0.62),
            chest.lateral(0.12, 0.60),
        ]
    else:
        s = lesion.side
        path = [(0.5 + s * 0.50, chest.level(0.80, s)), chest.frontal(s, 0.68, 1.0), chest.frontal(s, 0.45, 0.86), chest.frontal(s, 0.12 + 0.15 * w[8], 0.5)]  # fmt: skip
    line = smooth(path, closed=False)
    scene.density += (
        c.lines([line], 0.020) * np.float32(0.06) + c.lines([line], 0.006) * np.float32(0.16)
    ) * np.float32(strength)


DEVICES: dict[str, Callable[[Scene, Lesion, float], None]] = {
    "endotracheal tube": endotracheal_tube,
    "central line": central_line,
    "pacemaker": pacemaker,
    "gastric tube": gastric_tube,
    "sternal wires": sternal_wires,
    "chest tube": chest_tube,
}
