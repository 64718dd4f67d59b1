"""Fusions by name: how a head reads the views of a study. A new one is a file of its own and its line here."""

from collections.abc import Callable

from hilum.models.fusions.concat import concat
from hilum.models.fusions.fusion import EarlyFusion, Fusion
from hilum.models.fusions.mean_max import maximum, mean
from hilum.models.fusions.transformer import transformer
from hilum.models.fusions.weighted import weighted

FUSIONS: dict[str, Callable[..., Fusion]] = {
    "mean": mean,
    "max": maximum,
    "concat": concat,
    "weighted": weighted,
    "transformer": transformer,
}

__all__ = ["FUSIONS", "EarlyFusion", "Fusion"]
