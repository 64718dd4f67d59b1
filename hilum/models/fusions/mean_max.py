"""Mean and maximum: position by position over the maps of the views that are there."""

from torch import Tensor

from hilum.models.fusions.fusion import EarlyFusion, Fusion, as_tokens
from hilum.models.views import mean_over


class MeanFusion(EarlyFusion):
    """The plain mean of the maps of the present views: tokens (B, h*w, C)."""

    def tokens(self, features: Tensor, present: Tensor, view: Tensor) -> tuple[Tensor, None]:
        return as_tokens(mean_over(features, present)), None


class MaxFusion(EarlyFusion):
    """The largest value of each channel at each position over the present views: tokens (B, h*w, C)."""

    def tokens(self, features: Tensor, present: Tensor, view: Tensor) -> tuple[Tensor, None]:
        largest = features.masked_fill(~present[:, :, None, None, None], float("-inf")).amax(dim=1)
        nothing = ~present.any(dim=1)[:, None, None, None]
        return as_tokens(largest.masked_fill(nothing, 0.0)), None


def mean(channels: int, findings: int) -> Fusion:
    """Plain mean over the present views."""
    return MeanFusion(channels)


def maximum(channels: int, findings: int) -> Fusion:
    """Maximum over the present views."""
    return MaxFusion(channels)
