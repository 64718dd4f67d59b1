"""The mean over a bundle's test-time transforms on any engine: numpy makes what it can make exactly, torch the others where it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from hilum.bundle import Bundle
from hilum.errors import InputError
from hilum.inference.engines import Array, Engine, as_floats
from hilum.recipe import PredictSpec

Transform = Callable[[np.ndarray], Array]  # images uint8 (N, 1, S, S) -> float32 in [0, 1]

EXACT: dict[str, Transform] = {"identity": as_floats, "flip": lambda images: as_floats(images[..., ::-1])}


@dataclass(frozen=True)
class Averaging:
    """transforms: by name, the identity first. space: where the mean is taken, probability or logit."""

    transforms: dict[str, Transform]
    space: str

    @property
    def told(self) -> dict[str, Any] | None:
        """What an answer says of it; None where the images are read as they are."""
        return {"transforms": list(self.transforms), "space": self.space} if len(self.transforms) > 1 else None

    def of(self, ask: Callable[[Array], Array], images: np.ndarray) -> Array:
        """The mean of the logits that `ask` gives for each transform of images uint8 (N, 1, S, S)."""
        return averaged([ask(transform(images)) for transform in self.transforms.values()], self.space)


def averaging_of(bundle: Bundle, engine: Engine) -> Averaging:
    """What the bundle's recipe says. Raises InputError where that takes torch, and the engine has none."""
    spec = PredictSpec(**bundle.predict)
    words = ["identity", *(word.strip() for word in spec.tta)]
    strange = [word for word in words if word not in EXACT]
    if not strange:
        return Averaging({word: EXACT[word] for word in words}, spec.space)
    if not hasattr(engine, "classifier"):
        raise InputError(
            f"this bundle averages over the test-time transform {strange[0]}, which takes torch",
            where=bundle.weights_file.parent,
            do="use the engine torch, or train with predict.tta of flip alone",
        )
    return Averaging(import_module("hilum.inference.torch_transforms").behind_numpy(spec), spec.space)


def averaged(logits: Sequence[Array], space: str) -> Array:
    """The mean of several logits, as logits: of the logits themselves, or of the probabilities that they stand for."""
    if len(logits) == 1:
        return logits[0]
    stacked = np.stack(logits).astype(np.float64)
    if space == "logit":
        return np.asarray(stacked.mean(axis=0), dtype=np.float32)
    yes, no = (np.logaddexp.reduce(-np.logaddexp(0, sign * stacked), axis=0) for sign in (-1, 1))  # their K cancels
    return np.asarray(yes - no, dtype=np.float32)
