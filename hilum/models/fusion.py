"""Fusions: the feature maps of a study's views become one set of tokens for the head."""

from collections.abc import Callable

from torch import Tensor, nn


class MeanFusion(nn.Module):
    """The plain mean of the maps of the views that are there.

    features (B, V, C, h, w), present bool (B, V), view int8 (B, V) -> tokens (B, h*w, C).
    What stands in the place of an absent view never matters, not even NaN.
    """

    def forward(self, features: Tensor, present: Tensor, view: Tensor) -> Tensor:
        here = present[:, :, None, None, None]
        total = features.masked_fill(~here, 0.0).sum(dim=1)
        count = present.sum(dim=1).clamp(min=1)[:, None, None, None]
        return (total / count).flatten(2).transpose(1, 2)


def mean(channels: int) -> nn.Module:
    """Plain mean over the present views."""
    return MeanFusion()


FUSIONS: dict[str, Callable[..., nn.Module]] = {"mean": mean}
