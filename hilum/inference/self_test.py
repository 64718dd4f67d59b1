"""The self-test: phantom studies in the bundle with the logits the model gave them, so that whoever runs it sees that it still does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from hilum.bundle import Bundle
from hilum.inference.engines import Array, Engine, Flags, Views, as_floats

FILE = "self_test.safetensors"


@dataclass(frozen=True)
class SelfTest:
    """B studies of up to V images: images uint8 (B, V, 1, S, S), present bool (B, V), view int8 (B, V), demographics
    float32 (B, 4), logits float32 (B, F) by torch.
    """

    images: np.ndarray
    present: Flags
    view: Views
    demographics: Array
    logits: Array

    def asked(self, engine: Engine) -> Array:
        """Logits (B, F) of these studies by an engine."""
        return engine.logits(self.pixels, self.present, self.view, self.demographics)

    @property
    def pixels(self) -> Array:
        """The images float32 in [0, 1]."""
        return as_floats(self.images)

    def difference(self, engine: Engine) -> float:
        """The largest difference of a probability between this engine and the stored logits."""
        return largest_difference(self.asked(engine), self.logits)


def largest_difference(logits: Array, others: Array) -> float:
    """The largest difference between two sets of probabilities, given as logits; infinite where one is not finite."""
    if not (np.isfinite(logits).all() and np.isfinite(others).all()):
        return float("inf")
    return float(np.abs(sigmoid(logits) - sigmoid(others)).max())


def sigmoid(logits: Array) -> Array:
    """Probabilities of logits, float32; no overflow at either end."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), dtype=np.float32)


def write_self_test(test: SelfTest, folder: Path) -> None:
    """Write it into a bundle's folder."""
    save_file({name: np.ascontiguousarray(part) for name, part in vars(test).items()}, folder / FILE)


def read_self_test(bundle: Bundle) -> SelfTest | None:
    """The self-test of a bundle, None where it has none."""
    file = bundle.weights_file.parent / FILE
    return SelfTest(**load_file(file)) if file.is_file() else None
