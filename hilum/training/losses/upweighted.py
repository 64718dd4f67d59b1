"""More weight for findings that are named: the trick for those that do poorly on validation (Hong and Dai 2023)."""

import math
from collections.abc import Mapping, Sequence

import torch

from hilum.errors import InputError, nearest
from hilum.training.losses.loss import Loss


def upweighted(loss: Loss, findings: Sequence[str], *, upweight: Mapping[str, float]) -> Loss:
    """The loss with every entry of a finding weighed by its factor, positive and negative terms alike.

    upweight: finding -> factor above 0, by the names of this run's findings; the mean stays one over entries, so that
    an upweighted finding adds to the whole.
    Raises InputError for a name that is not among them, and for a factor that is none.
    """
    factor = torch.ones_like(loss.positive_weight)
    for name, value in upweight.items():
        if name not in findings:
            raise InputError(f"upweight of the loss: {name!r} is not a finding of this run", do=nearest(name, findings))
        if not 0 < value < math.inf:
            raise InputError(f"upweight of the loss: {name} has {value}", do="give a factor above 0, such as 2")
        factor[list(findings).index(name)] = value
    loss.positive_weight, loss.negative_weight = loss.positive_weight * factor, loss.negative_weight * factor
    return loss
