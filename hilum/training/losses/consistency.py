"""A term on top of any loss: a finding should not be more likely than the one it is a kind of."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hilum.errors import InputError, nearest
from hilum.training.losses.loss import Loss


class Consistent(Loss):
    """The loss it is given, plus weight * max(0, p_child - p_parent)^2 for each pair (Wehrmann et al. 2018).

    pairs: (child, parent) as places among the findings. The term stands at the child's entry, where both labels are
    known: so it is masked, averaged and weighed like every other, and a batch in parts gives what the whole gives.
    Otherwise it does not depend on labels: those that contradict the pair (child 1, parent 0) are not let off.
    """

    child: Tensor
    parent: Tensor

    def __init__(self, loss: Loss, pairs: Sequence[tuple[int, int]], weight: float):
        super().__init__(torch.ones(0), torch.ones(0), reduction=loss.reduction)  # the inner loss has the findings
        self.loss, self.weight = loss, weight
        child, parent = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1)
        self.register_buffer("child", child, persistent=False)
        self.register_buffer("parent", parent, persistent=False)

    def divisor(self, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.loss.divisor(labels, weights)

    def elementwise(self, logits: Tensor, labels: Tensor) -> Tensor:
        values = self.loss.elementwise(logits, labels)
        p = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
        excess = (p[:, self.child] - p[:, self.parent]).clamp(min=0) ** 2
        unknown = torch.isnan(labels)
        excess = excess.masked_fill(unknown[:, self.child] | unknown[:, self.parent], 0.0)
        return values.index_add(1, self.child, (self.weight * excess).to(values.dtype))


def consistent(
    loss: Loss, findings: Sequence[str], *, parents: dict[str, Any], parent_weight: float = 0.1
) -> Consistent:
    """The loss with that term on top; parents: `{child: parent}` or `{child: [parent, ...]}`, by the names of findings.

    Raises InputError for a name that is not among the findings.
    """
    place = {name: i for i, name in enumerate(findings)}
    named = [(child, one) for child, given in parents.items() for one in ([given] if isinstance(given, str) else given)]
    for name in (one for pair in named for one in pair):
        if name not in place:
            raise InputError(f"parents of the loss: {name!r} is not a finding of this run", do=nearest(name, place))
    return Consistent(loss, [(place[child], place[parent]) for child, parent in named], parent_weight)
