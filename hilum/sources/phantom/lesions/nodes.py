"""Lymph nodes and hila: adenopathy of the mediastinum, enlarged hila."""

import numpy as np

from hilum.sources.phantom import frontal, lateral
from hilum.sources.phantom.canvas import F32
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene
from hilum.sources.phantom.streams import stream


def _cluster(scene: Scene, places: list[tuple[float, float, float]]) -> F32:
    """Round nodes (x, y, radius) that touch: the thickest counts, so that their outline is lobulated."""
    whole = scene.canvas.blank()
    for x, y, radius in places:
        whole = np.maximum(whole, scene.canvas.bump(x, y, radius, soft=0.15))
    return np.asarray(np.minimum(1.25 * whole, 1), np.float32)


def _add(scene: Scene, nodes: F32, strength: float) -> None:
    """Nodes are soft tissue: plain where they replace air, hardly seen within the mediastinum."""
    scene.fill(nodes, 0.62 * strength)
    scene.density += nodes * np.float32(0.04 * strength)


def adenopathy(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Lobulated lumps beside the trachea, in the aortopulmonary window and at both hila; on the lateral a ring around the bronchi."""
    w, chest = lesion.where, scene.chest
    rng = stream(lesion.key[0], "nodes", lesion.key[1], lesion.key[2], int(scene.lateral))
    size = 0.022 + 0.010 * w[0]
    places = []
    if scene.lateral:
        x, y = lateral.hilum_at(chest)
        for angle in np.linspace(0, 2 * np.pi, 8)[:-1] + w[1]:
            reach = 0.046 * (0.9 + 0.2 * rng.random())
            places.append(
                (x + 0.02 + reach * np.cos(angle), y + reach * np.sin(angle), size * (0.75 + 0.7 * rng.random()))
            )
        for height, back in ((0.16, 0.40), (0.24, 0.36)):
            places.append((*chest.lateral(height, back), size))
    else:
        right, left = chest.upper
        for height in (0.13, 0.20, 0.27):
            places.append((0.5 - right - 0.006, chest.level(height, -1), size * (0.9 + 0.5 * rng.random())))
        places.append((0.5 + left + 0.004, chest.level(0.34, 1), 1.2 * size))
        for side in (-1, 1):
            x, y = frontal.hilum_at(chest, side)
            for down in (-0.036, 0.0, 0.036):
                places.append((x + side * (0.014 + 0.016 * rng.random()), y + down, size * (1 + 0.4 * rng.random())))
    _add(scene, _cluster(scene, places), strength)


def hilum(scene: Scene, lesion: Lesion, strength: float) -> None:
    """One hilum, at times both, too large and too dense, bulging into the lung; on the lateral a dense lump where they project."""
    w, chest = lesion.where, scene.chest
    size = 0.034 + 0.012 * w[1]
    places = []
    if scene.lateral:
        x, y = lateral.hilum_at(chest)
        x += 0.018 * (1 if lesion.side > 0 else -1)  # the left behind, the right in front
        places = [(x, y, 1.15 * size), (x + 0.012, y - 0.026, 0.8 * size), (x - 0.006, y + 0.030, 0.85 * size)]
    else:
        for side in (-1, 1) if w[0] < 1 / 3 else (lesion.side,):
            x, y = frontal.hilum_at(chest, side)
            for out, down, share in (
                (0.026, 0.0, 1.0),
                (-0.006, 0.004, 0.95),
                (0.014, -0.036, 0.75),
                (0.020, 0.040, 0.85),
            ):
                places.append((x + side * out, y + down * (0.8 + 0.4 * w[2]), size * share))
    _add(scene, _cluster(scene, places), 1.1 * strength)
