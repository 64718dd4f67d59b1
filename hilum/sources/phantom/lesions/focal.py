"""Round and ring-shaped things: nodule, granuloma, mass, lung lesion, hiatal hernia."""

import numpy as np

from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene
from hilum.sources.phantom.streams import stream


def _place(scene: Scene, lesion: Lesion) -> tuple[float, float]:
    """Centre on this view. A mimic lies outside the lung on the view that refutes it."""
    w, chest = lesion.where, scene.chest
    height, out, back = 0.18 + 0.62 * w[0], 0.22 + 0.60 * w[1], 0.15 + 0.72 * w[2]
    if lesion.mimic == "frontal":  # a lump of the chest wall: in the lung on the frontal, behind it on the lateral
        back = 1.10
    if lesion.mimic == "lateral":  # a lump of the flank: in the lung on the lateral, beside it on the frontal
        out = 1.10
    return chest.lateral(height, back) if scene.lateral else chest.frontal(lesion.side, height, out)


def nodule(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A round shadow under 3 cm, fairly sharp."""
    w = lesion.where
    x, y = _place(scene, lesion)
    size = 0.018 + 0.022 * w[3]
    ball = scene.canvas.bump(x, y, size, size * (0.85 + 0.3 * w[4]), soft=0.12)
    scene.density += ball * np.float32(0.29 * strength)


def granuloma(scene: Scene, lesion: Lesion, strength: float) -> None:
    """One to three old scars full of calcium: under 1 cm, sharp, round and as dense as bone."""
    w, c, side = lesion.where, scene.canvas, lesion.side
    places = [(0.20 + 0.55 * w[0], 0.25 + 0.55 * w[1], 0.25 + 0.55 * w[2])]
    if w[3] < 0.6:
        places.append((places[0][0] + 0.05 + 0.05 * w[4], places[0][1] - 0.12, places[0][2] + 0.08))
    if w[3] < 0.3:  # and a lymph node
        places.append((0.40, 0.10, 0.52))
    angle, radius = np.linspace(0, 2 * np.pi, 13), 0.0085 + 0.005 * w[5]
    rim = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    grains = c.fill([np.array(scene.at(side, *place)) + rim for place in places], 0.0015)
    scene.density += grains * np.float32(0.40 * strength)


def mass(scene: Scene, lesion: Lesion, strength: float) -> None:
    """A lobulated shadow over 3 cm."""
    w, c = lesion.where, scene.canvas
    x, y = _place(scene, lesion)
    size = 0.050 + 0.045 * w[3]
    whole = c.bump(x, y, size, size * (0.8 + 0.3 * w[4]), 90 * w[5])
    for k in range(3):
        angle = 2 * np.pi * (w[6] + k / 3 + 0.1 * w[7])
        lobe = c.bump(x + 0.6 * size * np.cos(angle), y + 0.6 * size * np.sin(angle), size * (0.45 + 0.2 * w[8]))
        whole = np.maximum(whole, 0.9 * lobe)
    scene.density += whole * np.float32(0.36 * strength)


def lesion(scene: Scene, item: Lesion, strength: float) -> None:
    """A cavity: a thick, uneven wall around air, with spikes into the lung around it."""
    w, c = item.where, scene.canvas
    x, y = _place(scene, item)
    size = 0.034 + 0.022 * w[3]
    inner = c.bump(x + 0.2 * size * (w[4] - 0.5), y + 0.2 * size * (w[5] - 0.5), size * (0.50 + 0.15 * w[6]), soft=0.1)
    ring = np.minimum(1.3 * c.bump(x, y, size, size * (0.9 + 0.2 * w[7])), 1) - np.float32(0.95) * np.minimum(
        1.6 * inner, 1
    )
    rng = stream(item.key[0], "spikes", item.key[1], item.key[2])
    spikes = []
    for angle in rng.uniform(0, 2 * np.pi, 9):
        reach = size * rng.uniform(1.25, 1.75)
        spikes.append(np.array([(x + 0.9 * size * np.cos(angle), y + 0.9 * size * np.sin(angle)), (x + reach * np.cos(angle), y + reach * np.sin(angle))]))  # fmt: skip
    scene.density += (ring + np.float32(0.35) * c.lines(spikes, 0.005)) * np.float32(0.34 * strength)


def hernia(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Part of the stomach above the diaphragm: a round shadow behind the heart with air and a fluid level."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    size = 0.065 + 0.050 * w[0]
    floor = chest.base[1] - chest.dome[1]
    if scene.lateral:
        x, y = chest.lateral(0.8, 0.62 + 0.1 * w[1])[0], floor - 0.45 * size
    else:
        x, y = 0.5 + 0.015 + 0.035 * w[1], floor - 0.35 * size
    sac = c.bump(x, y, size, size * (0.85 + 0.2 * w[2]), soft=0.06)
    level = y - 0.05 * size
    air = c.bump(x, y, 0.82 * size, 0.75 * size, soft=0.04) * np.clip((level - c.rows()) * 200 + 0.5, 0, 1)
    scene.density += np.minimum(1.5 * sac, 1) * np.float32(0.20 * strength) * (1 + scene.air)
    scene.density -= np.minimum(1.5 * air, 1) * np.float32(0.32 * strength)
