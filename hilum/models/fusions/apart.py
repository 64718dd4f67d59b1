"""Two heads, one for frontal and one for lateral views: each reads its own, and their logits are averaged."""

import torch
from torch import Tensor, nn

from hilum.models.context import Context
from hilum.models.fusions.fusion import Fusion
from hilum.models.views import GROUPS, group_of


class HeadPair(nn.Module):
    """A head for frontal and one for lateral views. Never called itself: `Apart` asks each."""

    def __init__(self, frontal: nn.Module, lateral: nn.Module):
        super().__init__()
        self.frontal, self.lateral = frontal, lateral


class Apart(Fusion):
    """`within` joins the frontal views of a study for the frontal head, the lateral ones for the lateral head.

    A view that is not known is read by both. A study's logits are the mean over the heads that have a view of it to read.
    """

    def __init__(self, within: Fusion):
        super().__init__(within.channels)
        self.within, self.per_finding, self.context = within, within.per_finding, within.context

    def forward(
        self, head: nn.Module, features: Tensor, present: Tensor, view: Tensor, context: Context | None = None
    ) -> Tensor:
        group = group_of(view)
        sides = [present & (group != GROUPS.index(other)) for other in ("lateral", "frontal")]
        heads = (head.frontal, head.lateral)
        told, own = ((), present) if context is None else ((context,), context.own(present))
        logits = torch.stack([self.within(one, features, here, view, *told) for one, here in zip(heads, sides)])
        asked = torch.stack([(here & own).any(dim=1) for here in sides])[..., None]
        total: Tensor = logits.masked_fill(~asked, 0.0).sum(dim=0)
        return total / asked.sum(dim=0).clamp(min=1)
