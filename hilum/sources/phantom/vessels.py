"""The lung markings: a patient's pulmonary vessels as branching lines, the same in all of their images."""

from functools import lru_cache

import numpy as np

from hilum.sources.phantom.canvas import Points
from hilum.sources.phantom.streams import stream

Tree = tuple[tuple[Points, float], ...]


@lru_cache(maxsize=64)
def tree(seed: int, patient: int) -> Tree:
    """Branches as ((n, 2) points, width): x = way out from the hilum 0..1, y = height relative to it, -1 apex .. 1 base."""
    rng = stream(seed, "vessels", patient)
    branches: list[tuple[Points, float]] = []
    fan = np.linspace(-1.35, 1.30, 8) + rng.normal(0, 0.08, 8)
    waiting = [(0.0, 0.0, float(a), 0.40, 1.0, 0) for a in fan]
    while waiting:
        x, y, angle, length, width, generation = waiting.pop()
        bend = float(rng.normal(0, 0.25)) + (0.20 if generation == 0 else 0.0) * np.sign(angle)
        t = np.linspace(0, 1, 5)
        heading = angle + bend * t
        step = length * (1 + 0.15 * float(rng.normal())) / 4
        xs = x + np.concatenate([[0.0], np.cumsum(np.cos(heading[1:]) * step)])
        ys = y + np.concatenate([[0.0], np.cumsum(np.sin(heading[1:]) * step)])
        branches.append((np.stack([xs, ys], axis=1), width))
        if generation < 3:
            spread = 0.34 + 0.16 * float(rng.random())
            for sign in (-1, 1):
                waiting.append(
                    (xs[-1], ys[-1], heading[-1] + sign * spread, length * 0.70, width * 0.66, generation + 1)
                )
    return tuple(branches)
