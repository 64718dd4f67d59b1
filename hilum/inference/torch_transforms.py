"""Test-time transforms of torch behind numpy, for an engine that has torch anyway."""

from collections.abc import Callable

import numpy as np
import torch

from hilum.inference.engines import Array
from hilum.inference.tta import Transform, transforms
from hilum.recipe import PredictSpec


def behind_numpy(spec: PredictSpec) -> dict[str, Callable[[np.ndarray], Array]]:
    """The transforms of `spec` by name, the identity first: images uint8 (N, 1, S, S) -> float32 in [0, 1]."""

    def bound(transform: Transform) -> Callable[[np.ndarray], Array]:
        return lambda images: np.asarray(transform(torch.from_numpy(np.ascontiguousarray(images)), spec.seed).numpy())

    return {name: bound(transform) for name, transform in transforms(spec.tta).items()}
