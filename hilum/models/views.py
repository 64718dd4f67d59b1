"""Views of a study: the groups they fall into, and averaging over those that are there."""

import torch
from torch import Tensor

from hilum.tables import VIEWS

GROUPS = ("frontal", "lateral", "other")
_PA, _AP, _LATERAL = (VIEWS.index(name) for name in ("PA", "AP", "LATERAL"))


def group_of(view: Tensor) -> Tensor:
    """Places in GROUPS, int64 like `view` (..., codes of a Batch): PA and AP are frontal, whatever is unknown is other."""
    sided = torch.where(view == _LATERAL, GROUPS.index("lateral"), GROUPS.index("other"))
    return torch.where((view == _PA) | (view == _AP), GROUPS.index("frontal"), sided)


def counted(present: Tensor) -> Tensor:
    """`present` (B, V), but a row without any view counts as full: nothing is divided by zero or attends to nothing.

    Such rows do not come from a study table; their logits mean nothing, but they spoil no one else's.
    """
    return present | ~present.any(dim=1, keepdim=True)


def cleared(features: Tensor, present: Tensor) -> Tensor:
    """Features (B, V, C, h, w) with zeros in place of what stands where no view is, be it NaN."""
    return features.masked_fill(~present[:, :, None, None, None], 0.0)


def mean_over(features: Tensor, here: Tensor) -> Tensor:
    """(B, C, h, w): the mean of the maps (B, V, C, h, w) of the views that are `here` (B, V), zeros where none is."""
    count = here.sum(dim=1).clamp(min=1)[:, None, None, None]
    return cleared(features, here).sum(dim=1) / count
