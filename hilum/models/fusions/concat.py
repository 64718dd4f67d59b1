"""Concatenation: a slot for each group of views, so that the head knows what it saw on which, and where if it is told to."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.models.fusions.fusion import EarlyFusion, Fusion, as_tokens
from hilum.models.views import GROUPS, group_of, mean_over


class ConcatFusion(EarlyFusion):
    """Frontal, lateral and other maps side by side: tokens (B, h*w, 3 C), or with a grid one token (B, 1, 3 C grid^2).

    A slot is defined by the type of view, never by the order of images. Several images in a slot are averaged; a slot
    without an image holds a learned vector at every position.
    """

    def __init__(self, channels: int, grid: int | None):
        super().__init__(len(GROUPS) * channels * (grid or 1) ** 2)
        self.grid = grid
        self.absent = nn.Parameter(torch.zeros(len(GROUPS), channels))

    def tokens(self, features: Tensor, present: Tensor, view: Tensor) -> tuple[Tensor, None]:
        group, slots = group_of(view), []
        for place, absent in enumerate(self.absent):
            here = present & (group == place)
            filled = here.any(dim=1)[:, None, None, None]
            slots.append(torch.where(filled, mean_over(features, here), absent[:, None, None].to(features.dtype)))
        maps = torch.cat(slots, dim=1)
        if self.grid is None:
            return as_tokens(maps), None
        return F.adaptive_avg_pool2d(maps, self.grid).flatten(1)[:, None], None


def concat(channels: int, findings: int, *, grid: int | None = None) -> Fusion:
    """One slot each for frontal, lateral and other views, side by side.

    grid: average each map to grid x grid cells and lay these side by side as well, as one token (ours): a linear head
        then weighs every place on every view by itself. None leaves the positions as tokens, alike to a head that
        averages over them.
    """
    if grid is not None and grid < 1:
        raise InputError(f"fusion concat: grid is {grid}", do="give 1 or more cells a side, or null for tokens")
    return ConcatFusion(channels, grid)
