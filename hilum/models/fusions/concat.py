"""Concatenation: a slot for each group of views, so that the head knows what it saw on which."""

import torch
from torch import Tensor, nn

from hilum.models.fusions.fusion import EarlyFusion, Fusion, as_tokens
from hilum.models.views import GROUPS, group_of, mean_over


class ConcatFusion(EarlyFusion):
    """Frontal, lateral and other maps side by side: tokens (B, h*w, 3 C).

    A slot is defined by the type of view, never by the order of images. Several images in a slot are averaged; a slot
    without an image holds a learned vector at every position.
    """

    def __init__(self, channels: int):
        super().__init__(len(GROUPS) * channels)
        self.absent = nn.Parameter(torch.zeros(len(GROUPS), channels))

    def tokens(self, features: Tensor, present: Tensor, view: Tensor) -> tuple[Tensor, None]:
        group, slots = group_of(view), []
        for place, absent in enumerate(self.absent):
            here = present & (group == place)
            filled = here.any(dim=1)[:, None, None, None]
            slots.append(torch.where(filled, mean_over(features, here), absent[:, None, None].to(features.dtype)))
        return as_tokens(torch.cat(slots, dim=1)), None


def concat(channels: int, findings: int) -> Fusion:
    """One slot each for frontal, lateral and other views, side by side."""
    return ConcatFusion(channels)
