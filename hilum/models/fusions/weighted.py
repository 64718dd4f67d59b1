"""Weighted mean over views: of probabilities, logits or features, with weights given or learned."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import InputError, nearest
from hilum.models.fusions.fusion import Fusion, as_tokens
from hilum.models.views import GROUPS, cleared, counted, group_of

Of = Literal["probability", "logit", "feature"]
GIVEN = {"frontal": 7.0, "lateral": 3.0, "other": 5.0}


class WeightedFusion(Fusion):
    """Each group of views has a weight, for all findings or for each; a study's shares are renormalised over its views.

    of: what is averaged. Probabilities and logits: the head reads each view by itself. Features: it reads their mean.
    per_group: average within each group first, then weigh the groups; else each image has its group's weight.
    weights: (G,), positive, of the groups in their order.
    columns: 0 to keep these weights; 1 to learn others, or F to learn them for each finding. Learned is the offset of their
        logarithms, so that weight decay draws towards the given ones.

    Given 7:3:5 on probabilities per image is the weighted average that CheXFusion is compared with (Kim 2023, table 1).
    """

    given: Tensor

    def __init__(self, channels: int, of: Of, per_group: bool, weights: Tensor, columns: int):
        super().__init__(channels)
        self.of, self.per_group, self.per_finding = of, per_group, columns > 1
        self.register_buffer("given", weights.log()[:, None], persistent=False)
        self.offset = nn.Parameter(torch.zeros(len(weights), columns)) if columns else None

    def log_shares(self, present: Tensor, view: Tensor) -> Tensor:
        """Logarithms (B, V, 1 or F), float32, of the views' shares: they sum to 1 over the present ones, -inf for others."""
        here, group = counted(present), group_of(view)
        scores = (self.given if self.offset is None else self.given + self.offset).float()[group]
        if self.per_group:  # n images of a group share its weight
            alike = (group[:, :, None] == group[:, None, :]) & here[:, None, :]
            scores = scores - alike.sum(dim=2).clamp(min=1).log()[..., None]
        shares: Tensor = scores.masked_fill(~here[..., None], float("-inf")).log_softmax(dim=1)
        return shares

    def forward(self, head: nn.Module, features: Tensor, present: Tensor, view: Tensor) -> Tensor:
        shares, maps = self.log_shares(present, view), cleared(features, present)
        if self.of == "feature":
            average: Tensor = head(as_tokens((shares.exp()[..., None, None] * maps).sum(dim=1)))
            return average
        logits: Tensor = head(as_tokens(maps.flatten(0, 1))).unflatten(0, present.shape).float()
        if self.of == "logit":
            return (shares.exp() * logits).sum(dim=1)
        found = (shares + F.logsigmoid(logits)).logsumexp(dim=1)  # log of the mean p, and of the mean 1 - p:
        missed = (shares + F.logsigmoid(-logits)).logsumexp(dim=1)  # their difference keeps its digits near 0 and 1
        return found - missed


def weighted(
    channels: int,
    findings: int,
    *,
    of: Of = "probability",
    group: Literal["image", "view"] = "image",
    weights: Literal["given", "learned", "learned_per_finding"] = "given",
    given: dict[str, float] | None = None,
) -> Fusion:
    """Weighted mean over views.

    of: probability, logit or feature. group: weigh each image, or each group of views after averaging within it.
    weights: `given` ones, or learned from there on, once for all findings or for each.
    given: weights of frontal, lateral and other views; what is not said is 7, 3, 5.
    """
    if of == "feature" and weights == "learned_per_finding":
        raise InputError(
            "fusion weighted: features are averaged before any finding is read, so they have no weights per finding",
            do="choose weights learned, or of logit or probability",
        )
    for name, value in (given or {}).items():
        if name not in GROUPS:
            raise InputError(f"fusion weighted: there is no group of views {name!r}", do=nearest(name, GROUPS))
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise InputError(f"fusion weighted: the weight of {name} is {value!r}", do="give a number above 0")
    start = torch.tensor([float({**GIVEN, **(given or {})}[name]) for name in GROUPS])
    columns = {"given": 0, "learned": 1, "learned_per_finding": findings}[weights]
    return WeightedFusion(channels, of, group == "view", start, columns)
