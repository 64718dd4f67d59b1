"""The lung markings: a patient's pulmonary vessels as branching lines, the same in all of their images."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hilum.sources.phantom.canvas import Points
from hilum.sources.phantom.streams import stream

GENERATIONS = 4
_ROOTS = 8


@lru_cache(maxsize=64)
def tree(seed: int, patient: int, side: int) -> tuple[Points, NDArray[np.float64]]:
    """Branches (n, 5, 2) and their generation (n,), the finest first so that the thick ones cover them.

    x is the way out from the hilum, 0 to about 1; y the height relative to it, -1 at the apex to 1 at the base.
    """
    rng = stream(seed, "vessels", patient, side + 1)
    start = np.zeros((_ROOTS, 2))
    heading = np.linspace(-1.35, 1.30, _ROOTS) + rng.normal(0, 0.08, _ROOTS)
    length = 0.40
    t = np.linspace(0, 1, 5)
    branches, generations = [], []
    for generation in range(GENERATIONS):
        n = len(start)
        bend = rng.normal(0, 0.25, n) + (0.20 * np.sign(heading) if generation == 0 else 0.0)
        angles = heading[:, None] + bend[:, None] * t
        step = length * (1 + 0.15 * rng.normal(size=n)) / 4
        moves = np.stack([np.cos(angles), np.sin(angles)], axis=2) * step[:, None, None]
        moves[:, 0] = 0
        lines = start[:, None] + np.cumsum(moves, axis=1)
        branches.append(lines)
        generations.append(np.full(n, float(generation)))
        spread = 0.34 + 0.16 * rng.random(n)
        start = np.repeat(lines[:, -1], 2, axis=0)
        heading = np.repeat(angles[:, -1], 2) + np.repeat(spread, 2) * np.tile([-1.0, 1.0], n)
        length *= 0.70
    return np.concatenate(branches[::-1]), np.concatenate(generations[::-1])
