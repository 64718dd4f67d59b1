"""Grad-CAM++: heat maps from the gradients of logits with respect to the feature maps (Chattopadhay et al. 2018)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hilum.models.classifier import Classifier


def maps(
    model: Classifier,
    features: NDArray[Any],
    present: NDArray[np.bool_],
    view: NDArray[np.int8],
    demographics: NDArray[np.float32],
    findings: Sequence[int],
) -> NDArray[np.float32]:
    """Heights float32 (findings, V, h, w), 0 and more, of one study: features (1, V, C, h, w) and the facts that `read` takes."""
    device = next(model.parameters()).device
    held = torch.from_numpy(np.array(features)).to(device).requires_grad_()
    here, seen, told = (torch.from_numpy(np.array(part)).to(device) for part in (present, view, demographics))
    with torch.enable_grad():
        logits = model.read(held, here, seen, told)[0]
        heights = [_weighed(held, torch.autograd.grad(logits[place], held, retain_graph=True)[0]) for place in findings]
    return torch.stack(heights).cpu().numpy().astype(np.float32)


def _weighed(features: Tensor, gradient: Tensor) -> Tensor:
    """(V, h, w): equations 10, 19 of the paper, each view's map by itself; the exponential of the score cancels out."""
    square, cube = gradient**2, gradient**3
    below = 2 * square + (features * cube).sum(dim=(-2, -1), keepdim=True)
    alpha = torch.where(below != 0, square / torch.where(below != 0, below, 1.0), 0.0)
    weights = (alpha * gradient.clamp(min=0)).sum(dim=(-2, -1), keepdim=True)
    return (weights * features).sum(dim=2)[0].clamp(min=0).detach()
